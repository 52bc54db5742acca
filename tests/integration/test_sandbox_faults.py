"""Making hosts sick, and well again."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusterctl.errors import UsageError
from clusterctl.sandbox import FileSpec, HostSpec, Sandbox, VirtualHost
from clusterctl.sandbox.faults import BlockKind
from tests.conftest import MakeSandbox

pytestmark = pytest.mark.sandbox

_DIAL = """
import socket, sys
try:
    link = socket.create_connection((sys.argv[1], int(sys.argv[2])), 2)
    link.settimeout(2)
    print("open")
except socket.timeout: print("silence")
except OSError as error: print(error.errno)
"""
_REFUSED, _UNREACHABLE = "111", "113"


@pytest.fixture(scope="module")
def pair(namespaces: None) -> Iterator[tuple[VirtualHost, VirtualHost]]:
    with Sandbox.create("faults", [HostSpec("left"), HostSpec("right", slots=3)]) as box:
        yield box.host("left"), box.host("right")


@pytest.fixture
def left(pair: tuple[VirtualHost, VirtualHost]) -> Iterator[VirtualHost]:
    yield pair[0]
    pair[0].unblock()


@pytest.fixture
def right(pair: tuple[VirtualHost, VirtualHost]) -> Iterator[VirtualHost]:
    yield pair[1]
    pair[1].unblock()


def dial(source: VirtualHost, target: str, port: int = 22) -> str:
    return source.run(["python3", "-c", _DIAL, target, str(port)]).stdout.strip()


@pytest.mark.parametrize(
    ("kind", "seen"), [("drop", "silence"), ("reset", _REFUSED), ("admin-prohibited", _UNREACHABLE)]
)
def test_a_block_looks_to_the_caller_as_its_kind_says(
    left: VirtualHost, right: VirtualHost, kind: BlockKind, seen: str
) -> None:
    right.block("in", kind, ports=(20, 30))
    assert dial(left, right.address()) == seen
    assert dial(left, right.address(), 4000) == _REFUSED
    right.unblock()
    assert dial(left, right.address()) == "open"


def test_a_block_of_what_goes_out_leaves_what_comes_in(left: VirtualHost, right: VirtualHost) -> None:
    left.block("out", "drop", ports=(1, 65535))
    assert dial(left, right.address()) == "silence"
    assert dial(right, left.address()) == "open"


def test_a_block_may_be_of_one_peer_only_and_spares_loopback(left: VirtualHost, right: VirtualHost) -> None:
    right.block("in", "drop", peer=left.address())
    assert dial(left, right.address()) == "silence"
    assert dial(right, "127.0.0.1") == "open"


def test_a_pulled_cable_loses_the_carrier_and_keeps_the_address(
    left: VirtualHost, right: VirtualHost
) -> None:
    right.set_link("eth0", up=False)
    try:
        assert right.run(["cat", "/sys/class/net/eth0/carrier"]).stdout == "0\n"
        assert right.address() in right.run(["ip", "-br", "addr", "show", "eth0"]).stdout
        assert dial(left, right.address()) in ("silence", _UNREACHABLE)
    finally:
        right.set_link("eth0", up=True)
    assert dial(left, right.address()) == "open"


_SEND = """
import socket, sys, threading
server = socket.create_server(("0.0.0.0", 0)); print(server.getsockname()[1], flush=True)
link, _ = server.accept(); link.settimeout(4); total = 0
try:
    while True:
        data = link.recv(65536)
        if not data: break
        total += len(data)
except OSError: pass
print(total, flush=True)
"""


def transfer(source: VirtualHost, target: VirtualHost, size: int) -> int:
    """How many of ``size`` bytes arrive within some seconds."""
    receiver = target.popen(["python3", "-c", _SEND])
    assert receiver.stdout is not None
    port = receiver.stdout.readline().strip()
    code = (
        "import socket, sys; s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 3); "
        "s.settimeout(4); s.sendall(bytes(int(sys.argv[3])))"
    )
    source.run(["python3", "-c", code, target.address(), port, str(size)])
    output, _ = receiver.communicate(timeout=120)
    return int(output)


def test_a_switch_with_a_smaller_mtu_swallows_large_packets_only(
    left: VirtualHost, right: VirtualHost
) -> None:
    for host in (left, right):
        host.set_mtu("eth0", 9000)
    try:
        assert transfer(left, right, 8000) == 8000
        right.set_switch_mtu("eth0", 1500)
        assert dial(left, right.address()) == "open"
        assert transfer(left, right, 1000) == 1000
        assert transfer(left, right, 8000) == 0
    finally:
        right.set_switch_mtu("eth0", 9216)
        for host in (left, right):
            host.set_mtu("eth0", 1500)
    assert right.run(["cat", "/sys/class/net/eth0/mtu"]).stdout == "1500\n"


def test_a_bandwidth_limit_is_set_on_both_ends_of_the_cable(left: VirtualHost) -> None:
    left.limit_bandwidth("eth0", "200mbit")
    shown = left.run(["tc", "qdisc", "show", "dev", "eth0"]).stdout
    assert "tbf" in shown and "200Mbit" in shown


def test_decoy_bridges_have_the_same_address_everywhere(left: VirtualHost, right: VirtualHost) -> None:
    for host in (left, right):
        host.add_decoy_bridge("docker0", "172.17.0.1/16")
        shown = host.run(["ip", "-br", "addr", "show", "docker0"]).stdout.split()
        assert shown[1:3] == ["UP", "172.17.0.1/16"]
    left.add_decoy_bridge("virbr0", "192.168.122.1/24", carrier=False)
    assert left.run(["cat", "/sys/class/net/virbr0/carrier"]).stdout == "0\n"


def test_a_frozen_host_answers_nothing_until_it_is_thawed(right: VirtualHost) -> None:
    worker = right.popen(["sh", "-c", "while :; do echo tick; sleep 0.05; done"])
    assert worker.stdout is not None and worker.stdout.readline() == "tick\n"
    right.freeze()
    try:
        states = right.run(["ps", "-e", "-o", "stat=,args="]).stdout.splitlines()
        stopped = [line for line in states if "tick" in line or "sshd" in line]
        assert stopped and all(line.startswith("T") for line in stopped)
    finally:
        right.thaw()
    assert worker.stdout.readline() == "tick\n"
    worker.kill()
    worker.communicate()


def test_sshd_stops_and_starts_while_the_host_lives(left: VirtualHost, right: VirtualHost) -> None:
    right.stop_sshd()
    assert not right.accepts_ssh
    assert dial(left, right.address()) == _REFUSED
    right.start_sshd()
    assert dial(left, right.address()) == "open"


def test_a_crashed_host_is_gone_and_its_neighbours_live(make_sandbox: MakeSandbox) -> None:
    box = make_sandbox(hosts=[HostSpec("a"), HostSpec("b")])
    a, b = box.hosts
    b.crash()
    assert not b.alive and not b.accepts_ssh
    assert dial(a, b.address()) in ("silence", _UNREACHABLE)
    assert b.run(["true"]).returncode == 125
    assert a.run(["hostname"]).stdout == "a\n"


def test_an_installed_file_covers_the_machine_s_on_one_host(left: VirtualHost, right: VirtualHost) -> None:
    before = Path("/etc/os-release").read_text()
    left.install("/etc/os-release", "ID=other\n")
    assert left.run(["cat", "/etc/os-release"]).stdout == "ID=other\n"
    assert right.run(["cat", "/etc/os-release"]).stdout == before
    assert Path("/etc/os-release").read_text() == before


def test_a_new_program_in_a_directory_of_the_machine(left: VirtualHost, right: VirtualHost) -> None:
    left.install("/usr/bin/nvidia-smi-x", "#!/bin/sh\necho 'GPU 0'\n", mode=0o755)
    left.install("/usr/bin/nvidia-smi-y", "#!/bin/sh\necho 'GPU 1'\n", mode=0o755)
    assert left.run(["nvidia-smi-x"]).stdout == "GPU 0\n"
    assert left.run(["nvidia-smi-y"]).stdout == "GPU 1\n"
    assert left.run(["hostname"]).stdout == "left\n"
    assert right.run(["nvidia-smi-x"]).returncode == 127
    left.install("/usr/bin/nvidia-smi-x", "#!/bin/sh\necho 'GPU 2'\n", mode=0o755)
    assert left.run(["nvidia-smi-x"]).stdout == "GPU 2\n"


def test_a_new_file_in_new_directories_and_in_private_ones(left: VirtualHost, right: VirtualHost) -> None:
    for path in ("/opt/vendor/deep/version.txt", "/tmp/job/flag", "/run/thing"):
        left.install(path, b"\x00\xff", mode=0o600)
        assert left.run(["stat", "-c", "%s %a", path]).stdout == "2 600\n"
        assert right.run(["cat", path]).returncode != 0


def test_a_directory_can_be_hidden(left: VirtualHost, right: VirtualHost) -> None:
    left.hide("/usr/share/doc")
    assert left.run(["ls", "/usr/share/doc"]).stdout == ""
    assert right.run(["ls", "/usr/share/doc"]).stdout != ""


def test_files_asked_for_at_the_start_are_there(make_sandbox: MakeSandbox) -> None:
    fake = FileSpec("#!/bin/sh\necho fake\n", 0o755)
    files: dict[str, str | FileSpec] = {"/etc/motd": "hello\n", "/usr/local/bin/fake": fake}
    box = make_sandbox(hosts=[HostSpec("a", files=files)])
    assert box.host("a").run(["sh", "-c", "cat /etc/motd; fake"]).stdout == "hello\nfake\n"


def test_a_shell_profile_speaks_in_ssh_sessions(pair: tuple[VirtualHost, VirtualHost]) -> None:
    box = Sandbox.load("faults")
    pair[0].shell_profile("echo WELCOME TO THE LAB\n")
    argv = ["ssh", "-F", str(box.ssh_config), "left", "hostname"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stdout == "WELCOME TO THE LAB\nleft\n"
    pair[0].shell_profile("")


def test_a_card_that_is_not_there_is_said_with_those_that_are(left: VirtualHost) -> None:
    with pytest.raises(UsageError, match="left has no network card 'eth7'") as caught:
        left.set_mtu("eth7", 1500)
    assert "eth0" in caught.value.hint
