"""Reading a run, stopping it, and bringing its outputs back: the verbs after `launch`."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from clusterctl.sandbox import Sandbox
from tests.integration.launching import PATIENCE, launch, leftovers, start
from tests.integration.standin import without_torch

pytestmark = pytest.mark.sandbox

COUNTS = """
import os, sys, time
rank = os.environ["RANK"]
for i in range(int(sys.argv[1])):
    print(f"line {i} of rank {rank}", flush=True)
sys.stdout.buffer.write(b"\\xff\\x00 50%\\r100%\\nno newline")
sys.stdout.flush()
os.makedirs("out", exist_ok=True)
open(f"out/result-{rank}.txt", "w").write("result " + rank)
time.sleep(float(sys.argv[2]))
"""
TWO = ["-n", "2", "--gpus-per-node", "1"]


def clusterctl(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "clusterctl", *words], cwd=cwd, capture_output=True, timeout=180, check=False
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "counts.py").write_text(COUNTS)
    return tmp_path


def test_logs_after_the_end(sandbox: Sandbox, project: Path) -> None:
    found = launch(sandbox, "counts.py", "5", "0", cwd=project, options=[*TWO, *without_torch(sandbox)])
    assert found.code == 0, found.text
    run = found.run.name
    everything = clusterctl("logs", run).stdout.splitlines()
    assert [line.decode() for line in everything if b"of rank" in line] == [
        f"{host} {rank}    │ line {i} of rank {rank}"
        for host, rank in (("node1", 0), ("node2", 1))
        for i in range(5)
    ]
    raw = (found.run / "logs/node2/rank-1.log").read_bytes()
    assert clusterctl("logs", run, "--rank", "1").stdout == raw, "byte for byte, to be piped"
    assert (
        clusterctl("logs", run, "--host", "node1", "--tail", "1").stdout
        == "node1 0    │ no newline\n".encode()
    )
    for words, expected in (
        (["--rank", "9"], b"its ranks are 0 to 1"),
        (["--host", "node9"], b"its hosts: node[1-2]"),
        (["--host", "node1", "--rank", "1"], b"it ran on node2"),
    ):
        wrong = clusterctl("logs", run, *words)
        assert (wrong.returncode, expected in wrong.stderr, b"Traceback" in wrong.stderr) == (64, True, False)


def test_follow_status_and_stop_from_another_terminal(sandbox: Sandbox, project: Path) -> None:
    found = start(sandbox, "counts.py", "3", "600", cwd=project, options=[*TWO, *without_torch(sandbox)])
    found.wait_for_logs("line 2 of rank", 2)
    run = found.run.name
    following = subprocess.Popen(
        [sys.executable, "-m", "clusterctl", "logs", "-f", run], stdout=subprocess.PIPE
    )
    status = json.loads(clusterctl("status", run, "--json").stdout)
    assert status["run"]["status"] == "running"
    assert [(host["host"], host["state"]) for host in status["hosts"]] == [
        ("node1", "1 running"),
        ("node2", "1 running"),
    ]
    stopped = clusterctl("stop", run, "--now")
    assert stopped.returncode == 0, stopped.stderr
    assert b"0 processes left on 2 of 2 hosts" in stopped.stdout
    found.finish()
    assert found.code == 123
    followed, _ = following.communicate(timeout=PATIENCE)
    assert b"line 2 of rank 1" in followed, "it ends by itself when the run is over"
    again = clusterctl("stop", run)
    assert (again.returncode, b"over already: stopped" in again.stdout) == (0, True)
    listed = json.loads(clusterctl("runs", "--json").stdout)
    assert [each["status"] for each in listed if each["run"] == run] == ["stopped"]


def test_stop_without_the_runs_own_controller(sandbox: Sandbox, project: Path) -> None:
    found = start(sandbox, "counts.py", "3", "600", cwd=project, options=[*TWO, *without_torch(sandbox)])
    found.wait_for_logs("line 2 of rank", 2)
    found.signal(signal.SIGKILL)
    found.finish()
    run = found.run.name
    assert json.loads(clusterctl("status", run, "--json").stdout)["run"]["status"] == "interrupted"
    assert leftovers(sandbox, run)
    stopped = clusterctl("stop", run, "--now")
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr
    assert leftovers(sandbox, run) == []
    assert found.outcome["status"] == "stopped"
    assert found.outcome["incomplete_logs"] == []
    assert found.log("node2", 1).count("of rank 1") == 3
    ends = [event for event in found.events() if event["event"] == "rank-start"]
    assert len(ends) == 2, "what had been copied before is not copied again"


def test_pull_brings_what_the_run_wrote(sandbox: Sandbox, project: Path) -> None:
    found = launch(sandbox, "counts.py", "1", "0", cwd=project, options=[*TWO, *without_torch(sandbox)])
    assert found.code == 0, found.text
    run = found.run.name
    pulled = clusterctl("pull", run, cwd=project)
    assert pulled.returncode == 0, pulled.stderr
    target = project / "pulled" / run
    assert sorted(str(path.relative_to(target)) for path in target.rglob("*.*")) == [
        "node1/out/result-0.txt",
        "node2/out/result-1.txt",
    ]
    assert (target / "node2/out/result-1.txt").read_text() == "result 1"
    one = clusterctl("pull", run, "counts.py", "--host", "node1", "--to", "here", cwd=project)
    assert one.returncode == 0, one.stderr
    assert (project / "here/node1/counts.py").read_text() == COUNTS
    for path in ("nothere", "../..", "/etc/passwd"):
        missing = clusterctl("pull", run, path, cwd=project)
        assert missing.returncode == 64
        assert b"hint: there is: counts.py, out" in missing.stderr
