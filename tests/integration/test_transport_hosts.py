"""Both transports against real OpenSSH servers: bytes, exit codes, deadlines."""

from __future__ import annotations

import os
import selectors
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from clusterctl.sandbox import HostSpec, Nic, Sandbox
from clusterctl.transport import Channel, Failure, Kind, Transport, connect

pytestmark = pytest.mark.sandbox
KINDS: tuple[Kind, ...] = ("fabric", "openssh")
NAMES = ("node1", "node2", "node3", "node4")


@pytest.fixture(params=KINDS)
def link(request: pytest.FixtureRequest, sandbox: Sandbox) -> Iterator[Transport]:
    transport = connect(request.param, sandbox.ssh_config)
    yield transport
    transport.close()


def soon(seconds: float = 30.0) -> float:
    return time.monotonic() + seconds


def opened(link: Transport, host: str, command: str, deadline: float | None = None) -> Channel:
    channel = link.open(host, command, deadline or soon())
    assert not isinstance(channel, Failure), channel
    return channel


def read_all(channels: Sequence[Channel], deadline: float) -> dict[str, tuple[bytes, bytes]]:
    """One selector thread reads every channel to its end, as the product does."""
    said = {id(channel): [b"", b""] for channel in channels}
    with selectors.DefaultSelector() as selector:
        for channel in channels:
            selector.register(channel.fileno(), selectors.EVENT_READ, channel)
        while selector.get_map():
            assert time.monotonic() < deadline, "channels did not end"
            for key, _ in selector.select(1.0):
                out, err = key.data.receive()
                said[id(key.data)][0] += out
                said[id(key.data)][1] += err
                if key.data.ended:
                    selector.unregister(key.fileobj)
    return {
        f"{channel.host}/{n}": (said[id(channel)][0], said[id(channel)][1])
        for n, channel in enumerate(channels)
    }


def test_input_output_and_exit_code_arrive_whole(link: Transport) -> None:
    channel = opened(link, "node1", "cat; echo done >&2; exit 7")
    data = os.urandom(3_000_000)
    received = bytearray()
    for start in range(0, len(data), 100_000):
        channel.send(data[start : start + 100_000])
        received += channel.receive()[0]
    channel.close_input()
    ((out, err),) = read_all([channel], soon()).values()
    assert bytes(received) + out == data
    assert err == b"done\n"
    assert channel.exit_code == 7
    assert channel.seconds > 0
    channel.close()


def test_all_hosts_answer_as_they_complete(link: Transport) -> None:
    found = dict(link.open_all(NAMES, "hostname", soon()))
    channels = [channel for channel in found.values() if not isinstance(channel, Failure)]
    said = read_all(channels, soon())
    assert sorted(out for out, _ in said.values()) == [f"{name}\n".encode() for name in NAMES]
    assert {channel.exit_code for channel in channels} == {0}


def test_sixteen_channels_with_much_on_both_streams(link: Transport) -> None:
    noise = "head -c 3000000 /dev/zero >&2; head -c 100000 /dev/zero; exit 0"
    channels = [
        channel
        for _, channel in link.open_all(NAMES * 4, noise, soon(60))
        if not isinstance(channel, Failure)
    ]
    assert len(channels) == 16
    said = read_all(channels, soon(60))
    assert {(len(out), len(err)) for out, err in said.values()} == {(100_000, 3_000_000)}
    assert {channel.exit_code for channel in channels} == {0}


def test_closing_tells_the_remote_command(link: Transport, sandbox: Sandbox) -> None:
    mark = sandbox.host("node2").home / f"eof-{id(link)}"
    channel = opened(link, "node2", f"echo up; cat > /dev/null; touch {mark.name}")
    wait_for(lambda: channel.receive()[0] == b"up\n")
    assert not mark.exists()
    channel.close()
    wait_for(mark.exists)


def test_a_closed_channel_takes_nothing_more(link: Transport) -> None:
    channel = opened(link, "node1", "cat")
    channel.close()
    channel.close()
    for _ in range(2):
        with pytest.raises(OSError):
            channel.send(b"x")
    assert channel.receive() == (b"", b"")
    assert channel.ended


def test_a_running_command_has_no_exit_code(link: Transport) -> None:
    channel = opened(link, "node1", "cat")
    assert (channel.ended, channel.exit_code) == (False, None)
    channel.close_input()
    read_all([channel], soon())
    assert (channel.ended, channel.exit_code) == (True, 0)


def test_an_ended_channel_stays_readable(link: Transport) -> None:
    channel = opened(link, "node1", "echo x")
    read_all([channel], soon())
    assert channel.receive() == (b"", b"")
    with selectors.DefaultSelector() as selector:
        selector.register(channel.fileno(), selectors.EVENT_READ)
        assert selector.select(5.0)


@pytest.mark.long
def test_a_full_remote_command_does_not_hold_send_beyond_the_deadline(link: Transport) -> None:
    channel = opened(link, "node1", "sleep 7600", soon(15))
    channel.send(b"x")
    with pytest.raises(OSError):
        for _ in range(1000):
            channel.send(b"x" * 1_000_000)
    channel.close()


def test_an_iteration_ended_early_leaves_no_session_behind(link: Transport, sandbox: Sandbox) -> None:
    iterator = link.open_all(NAMES * 2, "exec cat > /dev/null", soon())
    _, first = next(iterator)
    iterator.close()  # type: ignore[attr-defined]
    assert not isinstance(first, Failure)
    first.close()
    # The pattern never is grep's own name, and `cat` ends when its input does.
    count = "grep -lx cat /proc/[0-9]*/comm 2>/dev/null | wc -l"
    wait_for(lambda: all(host.run(["sh", "-c", count]).stdout.strip() == "0" for host in sandbox.hosts))


def test_a_start_up_file_that_talks_and_sleeps_is_only_noise(make_sandbox: Callable[..., Sandbox]) -> None:
    box = make_sandbox([HostSpec("slow")])
    box.host("slow").shell_profile("echo welcome to slow; echo motd >&2; sleep 2\n")
    for kind in KINDS:
        transport = connect(kind, box.ssh_config)
        channel = opened(transport, "slow", "echo here")
        ((out, err),) = read_all([channel], soon()).values()
        assert out.endswith(b"here\n")
        assert b"welcome" in out
        assert b"motd" in err
        transport.close()


def test_another_user_and_port_from_the_configuration(make_sandbox: Callable[..., Sandbox]) -> None:
    box = make_sandbox([HostSpec("odd", nics=(Nic("enp5s0"),), user="trainer", port=2222)])
    for kind in KINDS:
        transport = connect(kind, box.ssh_config)
        channel = opened(transport, "odd", "echo $USER $SSH_CONNECTION")
        ((out, _),) = read_all([channel], soon()).values()
        assert out.startswith(b"trainer ")
        assert out.rstrip().endswith(b" 2222")
        assert transport.address_of("odd") == (box.host("odd").address(), 2222)
        assert transport.address_of("never-opened") is None
        transport.close()


def test_a_signal_is_told_as_minus_one(sandbox: Sandbox) -> None:
    transport = connect("fabric", sandbox.ssh_config)
    channel = opened(transport, "node1", "kill -KILL $$")
    read_all([channel], soon())
    assert channel.exit_code == -1
    transport.close()


def test_a_link_that_breaks_has_no_exit_code(make_sandbox: Callable[..., Sandbox]) -> None:
    box = make_sandbox([HostSpec("doomed")])
    transport = connect("fabric", box.ssh_config)
    channel = opened(transport, "doomed", "echo $PPID; cat")
    wait_for(lambda: bool(channel.receive()[0]))
    session = box.host("doomed").run(["sh", "-c", "grep -l sshd /proc/[0-9]*/comm"]).stdout.split()
    for path in session:
        pid = int(path.split("/")[2])
        command = box.host("doomed").run(["cat", f"/proc/{pid}/cmdline"]).stdout
        if "listener" not in command and "-D" not in command.split("\0"):
            box.host("doomed").admin(["kill", "-KILL", str(pid)])
    read_all([channel], soon())
    assert channel.exit_code is None
    with pytest.raises(OSError):
        channel.send(b"x")
    transport.close()


def test_a_frozen_host_is_given_up_at_the_deadline(make_sandbox: Callable[..., Sandbox]) -> None:
    box = make_sandbox([HostSpec("frozen"), HostSpec("fine")])
    box.host("frozen").freeze()
    for kind in KINDS:
        transport = connect(kind, box.ssh_config)
        found = dict(transport.open_all(["frozen", "fine"], "true", soon(6)))
        frozen = found["frozen"]
        assert isinstance(frozen, Failure)
        assert frozen.stage in ("deadline", "banner")
        assert not isinstance(found["fine"], Failure)
        transport.close()
    box.host("frozen").thaw()


def behind_node1(sandbox: Sandbox, tmp_path: Path) -> Path:
    """A configuration that reaches all other hosts through node1.

    `ProxyJump none` for node1 would also switch off the ProxyCommand into an ordinary user's sandbox.
    """
    config = tmp_path / "config"
    config.write_text(
        f"Host {' '.join(NAMES[1:])}\n  ProxyJump node1\nHost *\n  Include {sandbox.ssh_config}\n"
    )
    return config


def test_many_hosts_behind_one_gateway_share_its_connection(sandbox: Sandbox, tmp_path: Path) -> None:
    transport = connect("fabric", behind_node1(sandbox, tmp_path))
    found = dict(transport.open_all(NAMES[1:], "echo $SSH_CONNECTION", soon()))
    channels = [channel for channel in found.values() if not isinstance(channel, Failure)]
    assert len(channels) == 3, found
    gateway = sandbox.host("node1").address()
    assert {out.split()[0].decode() for out, _ in read_all(channels, soon()).values()} == {gateway}
    transport.close()


def test_who_leaves_does_not_take_the_gateway_along(sandbox: Sandbox, tmp_path: Path) -> None:
    transport = connect("fabric", behind_node1(sandbox, tmp_path))
    stays = opened(transport, "node2", "cat")
    for _ in range(30):
        leaves = opened(transport, "node3", "true")
        read_all([leaves], soon())
        leaves.close()
    stays.send(b"still here\n")
    stays.close_input()
    assert [out for out, _ in read_all([stays], soon()).values()] == [b"still here\n"]
    transport.close()


def first_word(channel: Channel) -> str:
    said = bytearray()

    def heard() -> bool:
        said.extend(channel.receive()[0])
        return b"\n" in said

    wait_for(heard)
    return said.split()[0].decode()


def test_a_channel_that_is_kept_is_the_next_one_of_its_command(link: Transport) -> None:
    first = opened(link, "node1", "cat", soon(20))
    first.send(b"one\n")
    assert first_word(first) == "one"
    link.keep(first, "cat")
    for command, host in (("cat; true", "node1"), ("cat", "node2")):
        other = opened(link, host, command)
        assert other is not first
        other.close()
    again = opened(link, "node1", "cat")
    assert again is first
    again.send(b"two\n")
    assert first_word(again) == "two"
    assert opened(link, "node1", "cat") is not first


def test_a_kept_channel_that_has_ended_is_replaced(link: Transport) -> None:
    first = opened(link, "node1", "echo $PPID; cat")
    link.keep(first, "echo $PPID; cat")
    first.close_input()
    wait_for(lambda: (first.receive(), first.ended)[1])
    second = opened(link, "node1", "echo $PPID; cat")
    assert second is not first
    assert first_word(second).isdigit()


def wait_for(true: Callable[[], bool], limit: float = 20.0) -> None:
    deadline = time.monotonic() + limit
    while not true():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)


def test_ssh_children_end_with_the_transport(sandbox: Sandbox) -> None:
    transport = connect("openssh", sandbox.ssh_config)
    channel = opened(transport, "node1", "cat")
    pid = channel.child.pid  # type: ignore[attr-defined]
    os.kill(pid, 0)
    transport.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


STUBBORN_PROXY = """
import os, select, signal, socket, sys, time
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
with open(sys.argv[1] + f"/{os.getpid()}", "w"):
    pass
link = socket.create_connection((sys.argv[2], 22))
while True:
    for readable in select.select([0, link], [], [])[0]:
        data = os.read(0, 65536) if readable == 0 else link.recv(65536)
        if not data:
            time.sleep(10000)
        link.sendall(data) if readable == 0 else os.write(1, data)
"""


def test_a_proxy_that_ignores_every_signal_holds_nothing_up(
    make_sandbox: Callable[..., Sandbox], tmp_path: Path
) -> None:
    box = make_sandbox([HostSpec("one"), HostSpec("two")])
    if "ProxyCommand" in box.ssh_config.read_text():
        pytest.skip("an ordinary user's sandbox has a ProxyCommand already")
    script, config = tmp_path / "proxy.py", tmp_path / "config"
    script.write_text(STUBBORN_PROXY)
    (tmp_path / "pids").mkdir()
    command = f"{sys.executable} {script} {tmp_path}/pids %h"
    config.write_text(f"Host one two\n  ProxyCommand {command}\nHost *\n  Include {box.ssh_config}\n")
    for kind in KINDS:
        transport = connect(kind, config)
        for host in ("one", "two"):
            assert first_word(opened(transport, host, "echo up; cat")) == "up"
        proxies = [int(file.name) for file in (tmp_path / "pids").iterdir()]
        assert len(proxies) == 2
        transport.close()
        wait_for(lambda proxies=proxies: not any(map(psutil.pid_exists, proxies)))  # type: ignore[misc]
        for file in (tmp_path / "pids").iterdir():
            file.unlink()
