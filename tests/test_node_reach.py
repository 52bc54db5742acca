"""Listening and dialling on this machine's loopback: every way a dial can end."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest

from clusterctl.messages.examination import DialAll, Dialled, DialResult, Listen, MasterPort
from clusterctl.node.traffic import attempt, dialer, kernel, master_port
from clusterctl.node.traffic.listeners import Reach

TOKEN = "00112233445566778899aabbccddeeff"
RANGE = (32768, 60999)


def reach(**order: Any) -> tuple[Reach, dict[str, Any]]:
    usual = {"token": TOKEN, "rank": 5, "addresses": ("127.0.0.1",), "ephemeral": 2, "port_range": RANGE}
    made = Reach(msgspec.to_builtins(Listen(**{**usual, **order})))
    return made, made.listen()


def visits(*peers: tuple[tuple[str, int, bool], ...], token: str = TOKEN, **limits: Any) -> list[DialResult]:
    usual = {"dial_timeout": 0.3, "reply_timeout": 0.5, "timeout": 60.0}
    order = DialAll(peers=peers, **{**usual, **limits})
    answer = dialer.dial_all(msgspec.to_builtins(order), bytes.fromhex(token))
    told = msgspec.convert({**answer, "is": "dialled"}, Dialled)
    return sorted(told.results, key=lambda row: row.order)


def dial(*targets: tuple[str, int], bulk: bool = False, **limits: Any) -> list[DialResult]:
    """Each target is a peer of its own."""
    return visits(*(((address, port, bulk),) for address, port in targets), **limits)


@contextmanager
def service(answer: Callable[[socket.socket], object]) -> Iterator[int]:
    """A foreign server on loopback; yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            try:
                made, _ = listening.accept()
            except OSError:
                return
            with made:
                answer(made)

        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()[1]


@contextmanager
def stopped(backlog: int) -> Iterator[tuple[str, int]]:
    """A listener whose process never accepts: all that answers is the kernel."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(backlog)
        yield listening.getsockname()


def test_all_kinds_of_port_are_opened_and_answer_with_a_megabyte() -> None:
    _, answer = reach()
    kinds = [kind for _, _, kind in answer["listeners"]]
    assert kinds == ["ephemeral", "ephemeral", "low", "middle", "high"]
    ports = {kind: port for _, port, kind in answer["listeners"]}
    assert RANGE[0] <= ports["low"] < RANGE[0] + 16 and RANGE[1] - 16 < ports["high"] <= RANGE[1]
    rows = visits(tuple((address, port, True) for address, port, _ in answer["listeners"]))
    assert [(row.order, row.result) for row in rows] == [(position, "ok") for position in range(5)]
    assert {(row.seen, row.device, row.rank) for row in rows} == {("127.0.0.1", "lo", 5)}
    assert all(0 < row.seconds < 5 for row in rows)


def test_many_peers_one_after_another_all_come_through() -> None:
    _, answer = reach(ephemeral=1)
    address, port, _ = answer["listeners"][0]
    assert [row.result for row in dial(*[(address, port)] * 600)] == ["ok"] * 600


def test_a_port_nobody_listens_on_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    assert [row.result for row in dial(("127.0.0.1", port))] == ["refused"]


def test_another_service_is_foreign() -> None:
    with service(lambda made: made.sendall(b"SSH-2.0-OpenSSH_9.2\r\n" * 5)) as chatty:
        assert dial(("127.0.0.1", chatty))[0].result == "foreign"
    with service(lambda made: None) as curt:
        assert dial(("127.0.0.1", curt))[0].result in ("foreign", "error")


def test_a_peer_whose_process_stands_still_is_connected_never_dropped() -> None:
    with stopped(512) as address:
        rows = dial(*[address] * 3, bulk=True)
    assert [row.result for row in rows] == ["connected"] * 3
    assert rows[0].detail == "its process has not answered"


def test_a_process_that_answers_late_is_waited_for() -> None:
    def late(made: socket.socket) -> None:
        hello = made.recv(attempt.HELLO.size)
        time.sleep(0.7)  # longer than a dial may go unanswered by the kernel
        magic, _, nonce = attempt.HELLO.unpack(hello)
        made.sendall(attempt.REPLY.pack(magic, nonce, 3, b"127.0.0.1"))
        made.recv(1)

    with service(late) as port:
        row = dial(("127.0.0.1", port), reply_timeout=20)[0]
    assert (row.result, row.rank) == ("ok", 3)


def test_a_megabyte_that_the_peers_kernel_takes_needs_no_process_there() -> None:
    """It reads nothing after its reply: what its kernel acknowledged is proof enough, however slow it is."""

    def reply_only(made: socket.socket) -> None:
        magic, _, nonce = attempt.HELLO.unpack(made.recv(attempt.HELLO.size))
        made.sendall(attempt.REPLY.pack(magic, nonce, 0, b"127.0.0.1"))
        done.wait(20)

    done = threading.Event()
    with service(reply_only) as port:
        row = dial(("127.0.0.1", port), bulk=True)[0]
        done.set()
    assert (row.result, row.seen) == ("ok", "127.0.0.1")


def test_requests_that_no_kernel_answers_are_a_timeout() -> None:
    """A full backlog drops them, as a firewall does."""
    with stopped(0) as address:
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(address)
        row = dial(address)[0]
        for filler in fillers:
            filler.close()
    assert row.result == "timeout"
    assert int(row.detail.split()[0]) >= 3, row.detail


def test_whoever_waits_keeps_nobody_waiting() -> None:
    """A silent peer, a full one, then a healthy one: its dials are over long before theirs."""
    _, answer = reach(ephemeral=1)
    address, port, _ = answer["listeners"][0]
    with stopped(0) as full, stopped(512) as silent:
        fillers = [socket.create_connection(full, 5)]
        order = DialAll(
            peers=tuple(((*where, False),) for where in (silent, full, (address, port))),
            dial_timeout=60,
            reply_timeout=60,
            timeout=3,
        )
        rows = dialer.dial_all(msgspec.to_builtins(order), bytes.fromhex(TOKEN))["results"]
        for filler in fillers:
            filler.close()
    assert {row[0]: row[1] for row in rows}[2] == "ok"
    assert rows[0][0] == 2
    assert {row[0]: row[1] for row in rows}[0] == "connected"


def test_one_scout_for_each_address_comes_first() -> None:
    """Of an address without a way no further port is tried where the peer has another one."""
    _, answer = reach(ephemeral=1)
    ports = [port for _, port, _ in answer["listeners"]]
    with socket.create_server(("127.0.0.3", 0)) as closed:
        nowhere = closed.getsockname()[1]
    peer = (
        *(("127.0.0.3", nowhere, False) for _ in range(3)),
        *(("127.0.0.1", port, False) for port in ports),
    )
    rows = visits(peer)
    assert [(row.order, row.result) for row in rows] == [
        (0, "refused"),
        *((position, "ok") for position in range(3, 3 + len(ports))),
    ]
    # Where it has no other, a firewall may still open some of the ports.
    rows = visits((("127.0.0.1", nowhere, False), *(("127.0.0.1", port, False) for port in ports)))
    assert [row.result for row in rows] == ["refused", *["ok"] * len(ports)]


def test_strangers_get_no_answer() -> None:
    _, answer = reach()
    address, port, _ = answer["listeners"][0]
    assert dial((address, port), token="ff" * 16)[0].result in ("foreign", "error")
    with socket.create_connection((address, port), 5) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\nHost: somebody\r\n\r\n")
        assert stranger.recv(100) == b""


def test_listeners_bind_to_the_addresses_they_are_given() -> None:
    _, answer = reach(addresses=["127.0.0.2"])
    assert {address for address, _, _ in answer["listeners"]} == {"127.0.0.2"}
    port = answer["listeners"][0][1]
    assert [row.result for row in dial(("127.0.0.2", port), ("127.0.0.3", port))] == ["ok", "refused"]


def test_the_master_port_is_free_and_outside_the_range() -> None:
    _, answer = reach(master=MasterPort(port=None, preferred=29500, tries=100))
    assert answer["master_error"] == "" and 29500 <= answer["master_port"] < 29600
    masters = [port for _, port, kind in answer["listeners"] if kind == "master"]
    assert masters == [answer["master_port"]]
    assert dial(("127.0.0.1", masters[0]))[0].result == "ok"


def test_a_held_port_is_passed_over_and_its_holder_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        order = {"port": None, "preferred": port, "tries": 50}
        assert master_port.find(order, (1, 2))[0] not in (port, None)
        chosen, why = master_port.find({**order, "port": port}, (1, 2))
    assert chosen == port
    assert why.startswith(f"port {port} is held by pid {os.getpid()} (")


def test_the_search_for_a_master_port_stays_out_of_the_range() -> None:
    order = {"port": None, "preferred": 29500, "tries": 100}
    assert (master_port.find(order, (29500, 29589))[0] or 0) >= 29590


@pytest.mark.parametrize("address", ["192.0.2.77", "2001:db8::77"])
def test_an_address_without_a_route_never_hangs(address: str) -> None:
    assert dial((address, 40000))[0].result in (
        *("no-route", "no-host", "unreachable", "prohibited", "timeout", "refused"),
    )


def test_the_kernels_table_of_neighbours_is_read_where_it_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = (
        "entries  allocs   destroys table_fulls\n"
        "0000000c 00000d30 00000556 00000010\n"
        "0000000c 00000c35 00001403 00000003\n"
    )
    monkeypatch.setattr(kernel, "read", lambda path: recorded)
    assert kernel.neighbour_table_fulls() == 19
    monkeypatch.setattr(kernel, "read", lambda path: "")
    assert kernel.neighbour_table_fulls() is None


def test_an_arp_entry_without_an_answer_is_told_from_one_with(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = (
        "IP address       HW type     Flags       HW address            Mask     Device\n"
        "10.1.0.2         0x1         0x2         ea:c5:48:44:d7:dd     *        v0\n"
        "10.1.0.9         0x1         0x0         00:00:00:00:00:00     *        v0\n"
    )
    monkeypatch.setattr(kernel, "read", lambda path: recorded)
    asked = {address: kernel.answers_arp(address) for address in ("10.1.0.2", "10.1.0.9", "10.2.0.1")}
    assert asked == {"10.1.0.2": True, "10.1.0.9": False, "10.2.0.1": None}


def test_a_megabyte_tells_how_it_fared() -> None:
    _, answer = reach(ephemeral=1)
    address, port, _ = answer["listeners"][0]
    heavy, light = visits(((address, port, True),), ((address, port, False),))
    assert heavy.flow is not None and heavy.flow.acknowledged >= attempt.BULK
    assert heavy.flow.packets > 0 and heavy.flow.shortest > 0
    assert light.flow is not None and light.flow.acknowledged < 1000


def test_small_packets_are_sent_one_by_one() -> None:
    _, answer = reach(ephemeral=1)
    address, port, _ = answer["listeners"][0]
    (row,) = visits(((address, port, True),), packets=20)
    assert row.result == "ok"
    assert row.flow is not None
    assert row.flow.packets >= 20
    assert row.flow.acknowledged < 1000


def test_without_a_greeting_a_handshake_is_all_there_is() -> None:
    with stopped(512) as address:
        order = DialAll(
            peers=(((*address, False),),), dial_timeout=20, reply_timeout=60, timeout=60, greeting=False
        )
        answer = dialer.dial_all(msgspec.to_builtins(order), bytes.fromhex(TOKEN))
    assert [row[1] for row in answer["results"]] == ["ok"]


def test_what_a_host_keeps_back_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = (
        "TcpExt: SyncookiesSent TCPRetransFail TCPSynRetrans\nTcpExt: 0 7 9\nIpExt: InOctets\nIpExt: 5\n"
    )
    monkeypatch.setattr(kernel, "read", lambda path: recorded)
    assert kernel.retransmissions_failed() == 7
    monkeypatch.setattr(kernel, "read", lambda path: "TcpExt: SyncookiesSent\nTcpExt: 0\n")
    assert kernel.retransmissions_failed() is None
