"""Logs of real runs: complete, in order, while they run and after; and runs whose controller died."""

from __future__ import annotations

import hashlib
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from clusterctl.sandbox import HostSpec, Sandbox
from tests.integration.launching import PATIENCE, launch, leftovers, start
from tests.integration.standin import without_torch

pytestmark = pytest.mark.sandbox
MakeSandbox = Callable[..., Sandbox]
TWO = ["-n", "2", "--gpus-per-node", "1"]

NOISY = """
import os, sys, time
rank = int(os.environ["RANK"])
out = sys.stdout.buffer
out.write(bytes(range(256)) * 4 + "ünï 日本 🚀\\r\\n".encode())
for number in range(20_000):
    out.write(b"%d of rank %d %s\\n" % (number, rank, b"x" * 40))
for percent in range(101):
    out.write(b"\\r%d%%" % percent)
out.write(b"\\nno end")
out.flush()
"""

STEPS = """
import os, sys, time
for number in range(500):
    print("step", number, "of rank", os.environ["RANK"], flush=True)
    if os.path.exists(sys.argv[1]): sys.exit(int(sys.argv[2]))
    time.sleep(0.2)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "noisy.py").write_text(NOISY)
    (tmp_path / "steps.py").write_text(STEPS)
    return tmp_path


def clusterctl(*words: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "clusterctl", *words], capture_output=True, timeout=PATIENCE, check=False
    )


def wait(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.1)


def test_a_log_is_what_the_rank_wrote_to_the_last_byte(sandbox: Sandbox, project: Path) -> None:
    found = launch(sandbox, "noisy.py", cwd=project, options=[*TWO, *without_torch(sandbox)])
    assert found.code == 0, found.text
    run = found.run.name
    for rank in (0, 1):
        alone = subprocess.run(
            [sys.executable, project / "noisy.py"], env={"RANK": str(rank)}, capture_output=True, check=True
        )
        log = clusterctl("logs", run, "--rank", str(rank)).stdout
        assert hashlib.sha256(log).hexdigest() == hashlib.sha256(alone.stdout).hexdigest()
    merged = clusterctl("logs", run, "--tail", "2").stdout.decode().splitlines()
    assert merged == ["node1 0    │ 100%", "node2 1    │ 100%", "node1 0    │ no end", "node2 1    │ no end"]
    said = clusterctl("logs", run, "-t", "--since", "1h", "--grep", "^(7|19999) of").stdout.decode()
    lines = [line.split(maxsplit=1) for line in said.splitlines()]
    assert sorted(text for _, text in lines) == [
        f"node{rank + 1} {rank}    │ {number} of rank {rank} {'x' * 40}"
        for rank in (0, 1)
        for number in (19999, 7)
    ]
    stamps = [
        datetime.fromisoformat(re.sub(r"(\.\d)", r"\g<1>00000", stamp)).timestamp() for stamp, _ in lines
    ]
    assert stamps == sorted(stamps)
    assert clusterctl("logs", run, "--grep", "no such line").returncode == 1


def test_engines_words_are_kept_apart(sandbox: Sandbox, project: Path) -> None:
    found = launch(sandbox, "steps.py", "/etc/passwd", "5", cwd=project, options=TWO)
    assert found.code == 5, found.text
    run = found.run.name
    assert b"engine" not in clusterctl("logs", run).stdout
    assert b" engine " in clusterctl("logs", run, "--agent").stdout, "torchrun tells of a failed worker"
    status = clusterctl("status", run).stdout.decode()
    assert "ended with 5" in status
    assert "0 processes left on 2 of 2 hosts" in status
    rank = found.outcome["cause"]["rank"]
    assert f"clusterctl logs {run} --rank {rank}" in status


def test_followed_while_it_runs(sandbox: Sandbox, project: Path) -> None:
    found = start(sandbox, "steps.py", "never", "0", cwd=project, options=[*TWO, *without_torch(sandbox)])
    found.wait_for_ranks(2)
    run = found.run.name
    following = subprocess.Popen(
        [sys.executable, "-m", "clusterctl", "logs", "-f", run], stdout=subprocess.PIPE, text=True
    )
    assert following.stdout is not None
    seen: set[str] = set()
    for line in following.stdout:
        seen.add(line.split("│")[0].strip())
        if "step 5" in line and seen == {"node1 0", "node2 1"}:
            break
    assert clusterctl("stop", run, "--now").returncode == 0
    following.communicate(timeout=PATIENCE)
    assert following.returncode == 0
    assert found.finish().code == 123


def interrupted(sandbox: Sandbox, project: Path, *words: str) -> tuple[str, Path]:
    """(id, directory) of a run whose controller was killed while its ranks ran."""
    found = start(sandbox, "steps.py", *words, cwd=project, options=[*TWO, *without_torch(sandbox)])
    found.wait_for_ranks(2)
    wait(lambda: len(list(found.run.glob("logs/*/rank-*.log"))) == 2)
    found.signal(signal.SIGKILL)
    found.finish()
    return found.run.name, found.run


def test_stop_of_a_run_whose_controller_died(sandbox: Sandbox, project: Path) -> None:
    run, folder = interrupted(sandbox, project, "never", "0")
    listed = json.loads(clusterctl("runs", "--json").stdout)
    assert [each["status"] for each in listed if each["run"] == run] == ["interrupted"]
    assert f"clusterctl stop {run}" in clusterctl("status", run).stdout.decode()
    assert leftovers(sandbox, run)
    before = (folder / "logs/node1/rank-0.log").stat().st_size
    time.sleep(1.0)
    stopped = clusterctl("stop", run)
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr
    assert b"controller is dead" in stopped.stderr
    assert leftovers(sandbox, run) == []
    outcome = json.loads((folder / "outcome.json").read_text())
    assert (outcome["status"], outcome["exit_code"], outcome["incomplete_logs"]) == ("stopped", 123, [])
    assert outcome["left_behind"] == {"node1": 0, "node2": 0}
    assert outcome["seconds"] > 1.0, "from its start, not from the take-over"
    log = (folder / "logs/node1/rank-0.log").read_bytes()
    assert len(log) > before, "what was printed meanwhile has been fetched"
    numbers = [int(line.split()[1]) for line in log.splitlines()]
    assert numbers == list(range(len(numbers))), "no line is missing, none came twice"


@pytest.mark.parametrize(("code", "status"), [(0, "succeeded"), (7, "failed")])
def test_what_ended_before_the_stop_is_not_called_stopped(
    sandbox: Sandbox, project: Path, code: int, status: str
) -> None:
    done = f"/tmp/{project.name}-done"
    run, folder = interrupted(sandbox, project, done, str(code))
    for host in sandbox.hosts[:2]:
        host.run(["touch", done])
    wait(lambda: leftovers(sandbox, run) == [])
    stopped = clusterctl("stop", run)
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr
    outcome = json.loads((folder / "outcome.json").read_text())
    assert (outcome["status"], outcome["exit_code"]) == (status, code)
    assert outcome["incomplete_logs"] == []


@pytest.mark.long
def test_what_could_not_be_asked_is_not_called_stopped(make_sandbox: MakeSandbox, project: Path) -> None:
    box = make_sandbox([HostSpec("node1"), HostSpec("node2")])
    run, folder = interrupted(box, project, "never", "0")
    box.host("node2").freeze()
    try:
        stopped = clusterctl("stop", run, "--now")
        assert stopped.returncode == 125
        assert b"not confirmed on node2" in stopped.stdout.replace(b"\n", b" ")
        outcome = json.loads((folder / "outcome.json").read_text())
        assert outcome["left_behind"] == {"node1": 0, "node2": None}
        again = clusterctl("stop", run)
        assert (again.returncode, b"node2 could not be asked then" in again.stdout) == (0, True)
    finally:
        box.host("node2").thaw()


@pytest.mark.long
def test_logs_that_ctrl_c_cut_off_are_fetched_later(make_sandbox: MakeSandbox, tmp_path: Path) -> None:
    (tmp_path / "bulk.py").write_text(
        "import os, sys, time\n"
        "for number in range(20_000): sys.stdout.write('%7d %s\\n' % (number, os.urandom(496).hex()))\n"
        "sys.stdout.flush()\ntime.sleep(600)\n"
    )
    box = make_sandbox(hosts=[HostSpec("a")])
    box.host("a").limit_bandwidth("eth0", "2mbit")
    found = start(box, "bulk.py", cwd=tmp_path)
    found.wait_for_ranks(1)
    run = found.run.name
    printed = box.host("a").home / f".clusterctl/node/{run}/0/logs/rank-0.log"
    wait(lambda: printed.stat().st_size == 20_020_000)
    found.signal()
    found.signal()
    found.finish()
    assert found.code == 123, found.text
    assert found.outcome["incomplete_logs"] == ["a"]
    assert f"clusterctl logs {run} --fetch" in found.text
    box.host("a").limit_bandwidth("eth0", "1000mbit")
    whole = hashlib.sha256(printed.read_bytes()).hexdigest()
    fetched = clusterctl("logs", run, "--rank", "0", "--fetch")
    assert fetched.returncode == 0, fetched.stderr.decode()
    assert hashlib.sha256(fetched.stdout).hexdigest() == whole
    assert found.outcome["incomplete_logs"] == []
    assert leftovers(box, run) == []
    again = clusterctl("logs", run, "--tail", "1", "--fetch")
    assert again.returncode == 0, again.stderr.decode()
