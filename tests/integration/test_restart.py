"""Runs that begin again after a failure, on real sshd hosts."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from clusterctl.sandbox import Sandbox
from tests.integration.launching import Launch, launch, leftovers, start
from tests.integration.standin import without_torch

pytestmark = pytest.mark.sandbox

# Counts to 100 as training would, from where the file in its working directory says; rank 0 keeps that.
COUNTS = """
import os, pathlib, sys, time
rank, attempt = os.environ["RANK"], int(os.environ["CLUSTERCTL_ATTEMPT"])
kept = pathlib.Path("kept") / rank
kept.parent.mkdir(exist_ok=True)
start = int(kept.read_text()) if kept.exists() else 0
print("attempt", attempt, "from", start, "in", os.getcwd(), flush=True)
for step in range(start + 1, 101):
    print(f"step {step}/100", flush=True)
    if step % 10 == 0:
        kept.write_text(str(step))
    if attempt <= int(sys.argv[-1]) and step == 20 * attempt + 5:
        time.sleep(600)
"""
# Saves as DeepSpeed does on disks of their own: each rank its shard, rank 0 alone `latest`.
SAVES = """
import os, pathlib, sys, time, zipfile
rank, attempt = int(os.environ["RANK"]), int(os.environ["CLUSTERCTL_ATTEMPT"])
root = pathlib.Path("ckpt")
latest = root / "latest"
tag = latest.read_text() if latest.exists() else ""
start = int(tag.replace("global_step", "") or 0)
told = [os.environ.get("CLUSTERCTL_RESUME_" + name, "").rpartition("/")[2] for name in ("TAG", "DIR")]
same = told == [tag, tag]
print("from", start, "told the same" if same else "told otherwise", flush=True)
for step in range(start + 1, 41):
    print(f"step {step}/40", flush=True)
    if step % 10 == 0:
        folder = root / f"global_step{step}"
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("mp_rank_00_model_states.pt", f"zero_pp_rank_{rank}_mp_rank_00_optim_states.pt"):
            with zipfile.ZipFile(folder / name, "w") as archive:
                archive.writestr("data", "x" * 999)
        if rank == 0:
            latest.write_text(folder.name)
    if attempt == 1 and step == 25:
        there = pathlib.Path(sys.argv[1])  # both are as far when one fails
        if rank == 0:
            there.touch()
        while not there.exists():
            time.sleep(0.05)
        if rank == 1:
            shard = folder / "zero_pp_rank_1_mp_rank_00_optim_states.pt"
            os.truncate(shard, 100)
            sys.exit(9)
        time.sleep(600)
"""
EXITS = "import sys; sys.exit(2)"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "counts.py").write_text(COUNTS)
    (tmp_path / "saves.py").write_text(SAVES)
    (tmp_path / "exits.py").write_text(EXITS)
    return tmp_path


def rank_pid(events: list[dict[str, Any]], attempt: int, rank: int) -> int | None:
    """Of the given attempt."""
    number, found = 1, None
    for event in events:
        if event["event"] == "attempt":
            number = event["attempt"]
        if event["event"] == "rank-start" and event["rank"] == rank and number == attempt:
            found = event["pid"]
    return found


def has_reached(found: Launch, attempt: int, step: int, events: list[dict[str, Any]]) -> bool:
    """Whether rank 1 has, on node2."""
    suffix = f".attempt-{attempt}" if attempt > 1 else ""
    log = found.run / f"logs/node2/rank-1{suffix}.log" if events else None
    told = log is not None and log.exists() and f"step {step}/100" in log.read_text()
    return told and rank_pid(events, attempt, 1) is not None


@pytest.mark.long
@pytest.mark.parametrize("engine", ["torchrun", "deepspeed"])
def test_a_rank_killed_three_times_ends_well_with_three_restarts(
    sandbox: Sandbox, project: Path, engine: str
) -> None:
    hosts = ["--include", "node1@node2", "--gpus-per-node", "1", "--engine", engine]
    found = start(sandbox, "counts.py", "3", cwd=project, options=[*hosts, "--max-restarts", "3"])
    for attempt in (1, 2, 3):
        found.wait_for(partial(has_reached, found, attempt, 20 * attempt + 5))
        sandbox.host("node2").run(["kill", "-9", str(rank_pid(found.events(), attempt, 1))])
    found.finish()
    outcome = found.outcome
    assert (found.code, outcome["status"], outcome["restarts"]) == (0, "succeeded", 3), found.text
    assert [each["last_step"] for each in outcome["attempts"]] == [25, 45, 65, 100]
    assert [each.get("cause", {}).get("signal") for each in outcome["attempts"][:3]] == [signal.SIGKILL] * 3
    logs = [found.run / f"logs/node2/rank-1{suffix}.log" for suffix in ("", ".attempt-2", ".attempt-4")]
    firsts = [log.read_text().splitlines()[0] for log in logs]
    assert [line.partition(" in ")[0] for line in firsts] == [
        "attempt 1 from 0",
        "attempt 2 from 20",
        "attempt 4 from 60",
    ]
    assert len({line.partition(" in ")[2] for line in firsts}) == 1, "they all worked in one directory"
    assert set(outcome["left_behind"].values()) == {0} and leftovers(sandbox, found.run.name) == []
    assert "attempt 4, restart 3 of 3" in found.text


@pytest.mark.long
def test_a_crash_loop_stops_with_a_sentence(sandbox: Sandbox, project: Path) -> None:
    options = ["--include", "node1", "--gpus-per-node", "1", "--max-restarts", "9"]
    found = launch(sandbox, "exits.py", cwd=project, options=options)
    assert found.code == 2, found.text
    assert len(found.outcome["attempts"]) == 3
    assert "3 attempts in a row ended in the same way" in found.outcome["no_restart"]


def test_a_restart_goes_on_from_the_newest_whole_checkpoint_on_disks_of_their_own(
    sandbox: Sandbox, project: Path
) -> None:
    """The newest is torn, and `latest` was written on one host only, and names the torn one."""
    hosts = ["--include", "node1@node2", "--gpus-per-node", "1"]
    options = [*hosts, "--max-restarts", "1", "--checkpoint-dir", "ckpt", *without_torch(sandbox)]
    there = sandbox.hostfile.parent / f"{project.name}.there"  # which hosts see
    found = launch(sandbox, "saves.py", str(there), cwd=project, options=options)
    assert found.code == 0, found.text
    for host, rank in (("node1", 0), ("node2", 1)):
        log = (found.run / f"logs/{host}/rank-{rank}.attempt-2.log").read_text()
        assert log.startswith("from 10 told the same"), log
    (said,) = [line for line in found.text.splitlines() if "goes on from step 10" in line]
    assert "not whole: global_step20 (zero_pp_rank_1_mp_rank_00_optim_states.pt on node2" in said
    assert [each.get("resumed", "") for each in found.outcome["attempts"]] == ["", "global_step10"]
    (resume,) = [event for event in found.events() if event["event"] == "resume"]
    assert [each["host"] for each in resume["latest"]] == ["node1", "node2"]


def first_plan(found: Launch) -> dict[str, Any]:
    """As soon as it is there."""
    while True:
        with suppress(AssertionError, OSError, ValueError):
            plan: dict[str, Any] = json.loads((found.run / "plan.json").read_text())
            return plan
        time.sleep(0.01)


GREEDY = """
import socket, sys, time
taken = socket.socket()
taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
while True:
    try:
        taken.bind(("0.0.0.0", int(sys.argv[1])))
        taken.listen()
        break
    except OSError:
        time.sleep(0.002)
time.sleep(600)
"""


@pytest.mark.long
def test_a_port_that_somebody_takes_at_the_last_moment_costs_no_restart(
    sandbox: Sandbox, project: Path
) -> None:
    found = start(sandbox, "counts.py", "0", cwd=project, options=["--include", "node1@node2"])
    port = first_plan(found)["master_port"]
    thief = sandbox.host("node1").popen([sys.executable, "-c", GREEDY, str(port)])
    try:
        found.finish()
    finally:
        thief.kill()
    assert found.code == 0, found.text
    first, *_, last = found.outcome["attempts"]
    assert (first["free"], last["status"], found.outcome["restarts"]) == (True, "succeeded", 0), found.text


@pytest.mark.long
def test_a_controller_that_dies_between_two_attempts_leaves_a_run_that_stop_ends(
    sandbox: Sandbox, project: Path
) -> None:
    options = ["--include", "node1@node2", "--max-restarts", "3"]
    found = start(sandbox, "exits.py", cwd=project, options=options)
    found.wait_for(lambda events: any(event["event"] == "attempt-end" for event in events))
    found.signal(signal.SIGKILL)
    found.process.wait()
    stop = subprocess.run(
        [sys.executable, "-m", "clusterctl", "stop", found.run.name],
        capture_output=True,
        text=True,
        check=False,
    )
    assert stop.returncode == 0, stop.stdout + stop.stderr
    assert found.outcome["status"] in ("stopped", "error")
    assert found.outcome["attempts"][0]["exit_code"] == 2
    assert set(found.outcome["left_behind"].values()) == {0}
    assert leftovers(sandbox, found.run.name) == []


@pytest.mark.long
@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_during_a_restart_is_the_end_of_the_run(sandbox: Sandbox, project: Path, times: int) -> None:
    options = ["--include", "node1@node2", "--max-restarts", "9"]
    found = start(sandbox, "exits.py", cwd=project, options=options)
    found.wait_for(lambda events: any(event["event"] == "attempt" for event in events))
    for _ in range(times):
        found.signal()
        time.sleep(0.2)
    found.finish()
    assert found.code == 123, found.text
    assert len(found.outcome["attempts"]) <= 2
    assert set(found.outcome["left_behind"].values()) == {0} and leftovers(sandbox, found.run.name) == []
