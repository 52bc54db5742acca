"""What an operator does to a running launch, on real sshd hosts: signals, input, impatience."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from clusterctl.sandbox import Sandbox
from tests.integration.launching import leftovers, start
from tests.integration.standin import without_torch

pytestmark = pytest.mark.sandbox

HEARS = """
import os, signal, sys, time
heard = []
signal.signal(signal.SIGUSR1, lambda *_: heard.append("USR1"))
print("ready", flush=True)
first = sys.stdin.readline().strip()
while not heard:
    time.sleep(0.05)
print(heard[0], repr(first), flush=True)
"""
SLEEPS = "import time; print('ready', flush=True); time.sleep(600)\n"
SMALL = ["-n", "2", "--gpus-per-node", "1"]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "hears.py").write_text(HEARS)
    (tmp_path / "sleeps.py").write_text(SLEEPS)
    return tmp_path


def test_a_signal_reaches_every_rank_and_standard_input_rank_0(sandbox: Sandbox, project: Path) -> None:
    with subprocess.Popen(["echo", "good morning"], stdout=subprocess.PIPE) as talker:
        assert talker.stdout
        found = start(
            sandbox, "hears.py", cwd=project, options=[*SMALL, "--stdin"], stdin=talker.stdout.fileno()
        )
    found.wait_for_logs("ready", 2)
    found.signal(signal.SIGUSR1)
    found.finish()
    assert found.code == 0, found.text
    assert found.log("node1", 0).split("\n")[1] == "USR1 'good morning'"
    assert found.log("node2", 1).split("\n")[1] == "USR1 ''"


@pytest.mark.long
def test_five_quick_ctrl_c_end_a_run_whose_agent_stands_still(sandbox: Sandbox, project: Path) -> None:
    found = start(sandbox, "sleeps.py", cwd=project, options=SMALL)
    found.wait_for_logs("ready", 2)
    agent = next(e["pid"] for e in found.events() if e["event"] == "agent" and e["host"] == "node2")
    sandbox.host("node2").run(["kill", "-STOP", str(agent)])
    for _ in range(5):
        found.signal()
        time.sleep(0.1)
    found.finish()
    assert found.code == 123, found.text
    assert found.outcome["cause"]["message"] == "stopped by the operator (Ctrl-C)"
    assert found.outcome["left_behind"]["node1"] == 0
    sandbox.host("node2").run(["kill", "-KILL", str(agent)])


def test_a_terminal_that_is_closed_is_called_that(sandbox: Sandbox, project: Path) -> None:
    found = start(sandbox, "sleeps.py", cwd=project, options=[*SMALL, *without_torch(sandbox)])
    found.wait_for_logs("ready", 2)
    found.signal(signal.SIGHUP)
    found.finish()
    assert found.code == 123, found.text
    assert "SIGHUP: its terminal was closed" in found.outcome["cause"]["message"]
    assert leftovers(sandbox, found.run.name) == []


@pytest.mark.long
def test_a_launch_that_was_suspended_loses_no_host(sandbox: Sandbox, project: Path) -> None:
    found = start(sandbox, "sleeps.py", cwd=project, options=SMALL)
    found.wait_for_logs("ready", 2)
    os.kill(found.process.pid, signal.SIGSTOP)
    time.sleep(16)
    os.kill(found.process.pid, signal.SIGCONT)
    time.sleep(2)
    found.signal()
    found.finish()
    assert found.code == 123, found.text
    assert found.outcome["left_behind"] == {"node1": 0, "node2": 0}
    assert "connection broke" not in found.text
