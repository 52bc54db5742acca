"""Listening and dialling on this machine's loopback: every way a dial can end."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest

from clusterctl.messages.examination import DialAll, Listen, MasterPort
from clusterctl.node.traffic import dialer, master_port
from clusterctl.node.traffic.listeners import Reach

TOKEN = "00112233445566778899aabbccddeeff"
RANGE = (32768, 60999)


def reach(**order: Any) -> tuple[Reach, dict[str, Any]]:
    usual = {"token": TOKEN, "addresses": ("127.0.0.1",), "ephemeral": 2, "port_range": RANGE}
    made = Reach(msgspec.to_builtins(Listen(**{**usual, **order})))
    return made, made.listen()


def dial(
    *targets: tuple[str, int], bulk: bool = False, token: str = TOKEN, tries: int = 1
) -> list[list[Any]]:
    order = DialAll(
        dials=tuple((address, port, bulk) for address, port in targets),
        dial_timeout=0.5,
        tries=tries,
        timeout=20,
    )
    return sorted(dialer.dial_all(msgspec.to_builtins(order), bytes.fromhex(token)))


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


def test_all_kinds_of_port_are_opened_and_answer_with_a_megabyte() -> None:
    _, answer = reach()
    kinds = [kind for _, _, kind in answer["listeners"]]
    assert kinds == ["ephemeral", "ephemeral", "low", "middle", "high"]
    ports = {kind: port for _, port, kind in answer["listeners"]}
    assert RANGE[0] <= ports["low"] < RANGE[0] + 16 and RANGE[1] - 16 < ports["high"] <= RANGE[1]
    targets = [(address, port) for address, port, _ in answer["listeners"]]
    rows = dial(*targets, bulk=True)
    assert [row[:2] for row in rows] == [[position, "ok"] for position in range(5)]
    assert {(row[3], row[4]) for row in rows} == {("127.0.0.1", "lo")}


def test_many_dials_at_once_all_come_through() -> None:
    _, answer = reach(ephemeral=1)
    address, port, _ = answer["listeners"][0]
    rows = dial(*[(address, port)] * 600)
    assert [row[1] for row in rows] == ["ok"] * 600


def test_a_port_nobody_listens_on_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    assert [row[1] for row in dial(("127.0.0.1", port))] == ["refused"]


def test_another_service_is_foreign() -> None:
    with service(lambda made: made.sendall(b"SSH-2.0-OpenSSH_9.2\r\n" * 5)) as chatty:
        assert dial(("127.0.0.1", chatty))[0][1] == "foreign"
    with service(lambda made: None) as curt:
        assert dial(("127.0.0.1", curt))[0][1] in ("foreign", "error")


def test_a_peer_that_accepts_and_says_nothing_is_a_timeout() -> None:
    done = threading.Event()
    with service(lambda made: done.wait(10)) as mute:
        row = dial(("127.0.0.1", mute))[0]
        done.set()
    assert (row[1], row[5]) == ("timeout", "connected, but nothing came back")


def test_a_full_backlog_is_a_timeout() -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        address = deaf.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(address)
        assert dial(address, tries=2)[0][1] == "timeout"
        for filler in fillers:
            filler.close()


def test_small_messages_that_pass_without_the_megabyte_are_a_stall() -> None:
    def reply_only(made: socket.socket) -> None:
        magic, _, nonce, _ = dialer.HELLO.unpack(made.recv(dialer.HELLO.size))
        made.sendall(dialer.REPLY.pack(magic, nonce, b"127.0.0.1"))
        done.wait(10)

    done = threading.Event()
    with service(reply_only) as port:
        row = dial(("127.0.0.1", port), bulk=True)[0]
        done.set()
    assert (row[1], row[3]) == ("stall", "127.0.0.1")


def test_strangers_get_no_answer() -> None:
    _, answer = reach()
    address, port, _ = answer["listeners"][0]
    assert dial((address, port), token="ff" * 16)[0][1] in ("foreign", "error")
    with socket.create_connection((address, port), 5) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\nHost: somebody\r\n\r\n")
        assert stranger.recv(100) == b""


def test_listeners_bind_to_the_addresses_they_are_given() -> None:
    _, answer = reach(addresses=["127.0.0.2"])
    assert {address for address, _, _ in answer["listeners"]} == {"127.0.0.2"}
    port = answer["listeners"][0][1]
    assert [row[1] for row in dial(("127.0.0.2", port), ("127.0.0.3", port))] == ["ok", "refused"]


def test_the_master_port_is_free_and_outside_the_range() -> None:
    _, answer = reach(master=MasterPort(port=None, preferred=29500, tries=100))
    assert answer["master_error"] == "" and 29500 <= answer["master_port"] < 29600
    masters = [port for _, port, kind in answer["listeners"] if kind == "master"]
    assert masters == [answer["master_port"]]
    assert dial(("127.0.0.1", masters[0]))[0][1] == "ok"


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
    assert dial((address, 40000))[0][1] in ("no-route", "unreachable", "timeout", "refused")
