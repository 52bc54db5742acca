"""`clusterctl sandbox`, as typed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from clusterctl.sandbox.lifecycle import find

pytestmark = pytest.mark.sandbox

_MAIN = "from clusterctl.cli.sandbox import app; app()"


def clusterctl_sandbox(home: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _MAIN, *arguments],
        capture_output=True, text=True, check=check, timeout=120,
        env={**os.environ, "CLUSTERCTL_HOME": str(home), "COLUMNS": "100"},
    )  # fmt: skip


def test_up_says_what_to_type_next_and_down_that_it_is_gone(empty_home: Path) -> None:
    up = clusterctl_sandbox(empty_home, "up", "--slots", "3,1").stdout
    assert "2 hosts" in up
    assert up.count("ready") == 2
    assert up.splitlines()[-1] == "Next: clusterctl doctor"
    hostfile = (empty_home / "sandbox/default/hostfile").read_text()
    assert hostfile == "node1 slots=3\nnode2 slots=1\n"

    again = clusterctl_sandbox(empty_home, "up").stdout
    assert "runs already" in again

    assert "gone" in clusterctl_sandbox(empty_home, "down").stdout
    assert "there is none" in clusterctl_sandbox(empty_home, "down").stdout
    assert "There is no sandbox" in clusterctl_sandbox(empty_home, "status").stdout


def test_ssh_and_exec_pass_the_command_and_its_status_on(empty_home: Path) -> None:
    clusterctl_sandbox(empty_home, "up", "--name", "lab", "--nodes", "2")
    assert clusterctl_sandbox(empty_home, "ssh", "node2", "hostname").stdout == "node2\n"
    assert clusterctl_sandbox(empty_home, "ssh", "node2", "exit 9", check=False).returncode == 9

    every = clusterctl_sandbox(empty_home, "exec", "all", "--", "sh", "-c", "hostname; exit 3", check=False)
    assert every.stdout == "node1  node1\nnode2  node2\n"
    assert every.returncode == 3
    one = clusterctl_sandbox(empty_home, "exec", "node1", "printf", "%s|", "--name", "a b", "$HOME")
    assert one.stdout == "--name|a b|$HOME|"

    status = clusterctl_sandbox(empty_home, "status").stdout
    assert "Sandbox lab running: 2 hosts" in status
    clusterctl_sandbox(empty_home, "down", "--all")
    assert find("lab", empty_home) is None


def test_status_tells_a_crashed_sandbox_from_a_running_one(empty_home: Path) -> None:
    (empty_home / "sandbox/half").mkdir()
    assert "half does not run" in clusterctl_sandbox(empty_home, "status").stdout
    assert "gone" in clusterctl_sandbox(empty_home, "down", "--name", "half").stdout
    assert not (empty_home / "sandbox/half").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="as root it needs openssh-server's own user and directory")
def test_a_loopback_sandbox_is_marked_simulated_and_ends_with_its_sessions(empty_home: Path) -> None:
    up = clusterctl_sandbox(empty_home, "up", "--loopback", "--nodes", "2").stdout
    assert "Simulated" in up
    clusterctl_sandbox(empty_home, "ssh", "node2", "nohup sleep 1717 >/dev/null 2>&1 &")
    clusterctl_sandbox(empty_home, "down")
    listed = subprocess.run(
        ["ps", "-e", "-o", "stat=,args="], capture_output=True, text=True, check=True
    ).stdout
    assert not [line for line in listed.splitlines() if "sleep 1717" in line and not line.startswith("Z")]


def test_help_of_the_verbs_imports_nothing_heavy() -> None:
    code = "import sys, clusterctl.cli.sandbox; print(sorted({'msgspec', 'cryptography'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
