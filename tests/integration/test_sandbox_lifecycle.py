"""Up once, up twice, up and killed, down: what is there afterwards."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from clusterctl.errors import ClusterctlError
from clusterctl.sandbox import HostSpec, Sandbox
from clusterctl.sandbox.lifecycle import find, take_down
from clusterctl.sandbox.spec import numbered
from clusterctl.sandbox.uplink import link_name

pytestmark = [pytest.mark.sandbox, pytest.mark.usefixtures("namespaces")]


def processes_of(directory: Path) -> list[str]:
    """Command lines of the processes that have an argument or a variable of the sandbox."""
    wanted = os.fsencode(directory)
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes()
                if wanted in command or wanted in (entry / "environ").read_bytes():
                    found.append(command.replace(b"\0", b" ").decode(errors="replace"))
            except OSError:
                continue
    return found


def card_of(directory: Path) -> Path:
    return Path("/sys/class/net") / link_name(directory)


def mounts() -> set[str]:
    return {line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()}


def test_down_leaves_no_process_card_mount_or_file(empty_home: Path) -> None:
    before = mounts()
    box = Sandbox.create("gone", numbered(3, (1,)), empty_home)
    box.host("node1").run(["sh", "-c", "setsid sleep 1000 > /dev/null 2>&1 &"])
    argv = [
        "ssh",
        "-F",
        str(box.ssh_config),
        "node2",
        "nohup sleep 1000 > /dev/null 2>&1 & mkdir -p a/b; chmod 0 a",
    ]
    subprocess.run(argv, check=True, timeout=120)
    box.host("node3").install("/usr/bin/made-up", "x")
    assert processes_of(box.directory)
    box.down()
    assert processes_of(box.directory) == []
    assert mounts() == before
    assert not card_of(box.directory).exists()
    assert [p.name for p in (empty_home / "sandbox").iterdir() if not p.name.startswith(".")] == []


def test_up_twice_is_the_same_sandbox_and_other_hosts_are_refused(empty_home: Path) -> None:
    with Sandbox.create("twice", numbered(2, (1,)), empty_home) as box:
        again = Sandbox.create("twice", numbered(2, (1,)), empty_home)
        assert again.state == box.state
        with pytest.raises(
            ClusterctlError, match="runs already, with other hosts: node1 slots=1, node2"
        ) as caught:
            Sandbox.create("twice", numbered(3, (1,)), empty_home)
        assert "clusterctl sandbox down --name twice" in caught.value.hint
        assert all(host.alive and host.accepts_ssh for host in box.hosts)


def test_two_sandboxes_live_side_by_side_and_end_alone(empty_home: Path) -> None:
    with Sandbox.create("one", [HostSpec("node1")], empty_home) as one:
        with Sandbox.create("two", [HostSpec("node1")], empty_home) as two:
            assert one.host("node1").address() != two.host("node1").address()
            assert one.state.link != two.state.link or one.state.mode == "user"
        assert find("two", empty_home) is None
        assert one.host("node1").run(["hostname"]).stdout == "node1\n"
        assert one.host("node1").accepts_ssh


_UP = """
import sys
from pathlib import Path
from clusterctl.sandbox import Sandbox
from clusterctl.sandbox.spec import numbered
from clusterctl.sandbox.uplink import link_name
print("go", flush=True)
Sandbox.create("killed", numbered(4, (1,)), Path(sys.argv[1]))
print("up", flush=True)
"""


@pytest.mark.parametrize("moment", [0, 1, 2, 3, 4, 5, 6, 8, 10, 13, 17, 25])
def test_an_up_killed_at_any_moment_leaves_nothing_that_down_or_up_do_not_clear(
    empty_home: Path, moment: int
) -> None:
    argv = [sys.executable, "-c", _UP, str(empty_home)]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "go\n"
    time.sleep(moment * 0.015)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    if moment % 2:
        with Sandbox.create("killed", numbered(4, (1,)), empty_home) as box:
            assert box.host("node2").run(["hostname"]).stdout == "node2\n"
    take_down("killed", empty_home)
    directory = empty_home / "sandbox/killed"
    assert not directory.exists()
    deadline = time.monotonic() + 120
    # A holder that was never recorded ends by itself as soon as it finds nobody at the other end.
    while processes_of(directory) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes_of(directory) == []
    assert not card_of(directory).exists()


def test_a_killed_holder_is_noticed_and_up_recovers(empty_home: Path) -> None:
    with Sandbox.create("crash", [HostSpec("a")], empty_home) as box:
        assert box.state.holder is not None
        os.kill(box.state.holder.pid, signal.SIGKILL)
        while box.state.holder.alive:
            time.sleep(0.01)
        assert find("crash", empty_home) is None
        with pytest.raises(ClusterctlError, match="left of it is from before"):
            Sandbox.load("crash", empty_home)
        again = Sandbox.create("crash", [HostSpec("a")], empty_home)
        assert again.host("a").run(["hostname"]).stdout == "a\n"


def test_pids_from_before_a_reboot_are_nobody_s(empty_home: Path) -> None:
    """After a reboot the recorded pid may be anybody's: here it is this test's own."""
    box = Sandbox.create("boot", [HostSpec("a")], empty_home)
    box.down()
    box.directory.mkdir()
    start = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    stale = msgspec.to_builtins(box.state) | {
        "boot": "another",
        "holder": {"pid": os.getpid(), "start": start},
    }
    (box.directory / "state.json").write_text(json.dumps(stale))
    assert find("boot", empty_home) is None
    with Sandbox.create("boot", [HostSpec("a")], empty_home) as again:
        assert again.host("a").alive


def test_a_reused_pid_is_not_ended(empty_home: Path) -> None:
    box = Sandbox.create("reuse", [HostSpec("a")], empty_home)
    box.down()
    box.directory.mkdir()
    bystander = subprocess.Popen(["sleep", "1000"])
    try:
        stale = msgspec.to_builtins(box.state) | {"holder": {"pid": bystander.pid, "start": 1}}
        (box.directory / "state.json").write_text(json.dumps(stale))
        assert take_down("reuse", empty_home)
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_failed_up_cleans_after_itself_and_says_why(empty_home: Path) -> None:
    with pytest.raises(ClusterctlError, match="cannot install /etc"):
        Sandbox.create("bad", [HostSpec("a", files={"/etc": "a directory"})], empty_home)
    directory = empty_home / "sandbox/bad"
    assert processes_of(directory) == []
    assert not directory.exists() and not card_of(directory).exists()


def test_a_sandbox_whose_files_were_removed_by_hand_ends_by_itself(empty_home: Path) -> None:
    box = Sandbox.create("orphan", [HostSpec("a")], empty_home)
    shutil.rmtree(box.directory)
    with Sandbox.create("orphan", [HostSpec("b")], empty_home) as again:
        assert again.host("b").run(["hostname"]).stdout == "b\n"
        assert box.state.holder is not None
        deadline = time.monotonic() + 120
        while box.state.holder.alive and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not box.state.holder.alive
        assert again.host("b").alive
    assert processes_of(box.directory) == []


def test_private_files_are_private(empty_home: Path) -> None:
    with Sandbox.create("modes", [HostSpec("a")], empty_home) as box:
        assert box.directory.stat().st_mode & 0o777 == 0o700
        for file in (
            box.directory / "id_ed25519",
            box.directory / "hosts/a/host_key",
            box.directory / "state.json",
        ):
            assert file.stat().st_mode & 0o777 == 0o600


_MESH = """
import socket, sys
for name in sys.argv[1:]:
    socket.create_connection((name, 22), 20).close()
print("all")
"""


@pytest.mark.long
def test_sixty_four_hosts_all_reach_each_other(empty_home: Path) -> None:
    with Sandbox.create("big", numbered(64, (8,)), empty_home) as box:
        argv = ["ssh", "-F", str(box.ssh_config), "node64", "hostname"]
        assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout == "node64\n"
        names = [host.name for host in box.hosts]
        dialling = [host.popen(["python3", "-S", "-c", _MESH, *names]) for host in box.hosts]
        assert {process.communicate(timeout=120)[0] for process in dialling} == {"all\n"}
