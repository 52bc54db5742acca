"""Runs that begin again after a failure, on real sshd hosts."""

from __future__ import annotations

import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from clusterctl.sandbox import Sandbox
from tests.integration.launching import Launch, launch, leftovers, start

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
EXITS = "import sys; sys.exit(2)"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "counts.py").write_text(COUNTS)
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


@pytest.mark.parametrize("engine", ["torchrun", pytest.param("deepspeed", marks=pytest.mark.long)])
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


def test_a_crash_loop_stops_with_a_sentence(sandbox: Sandbox, project: Path) -> None:
    options = ["--include", "node1", "--gpus-per-node", "1", "--max-restarts", "9"]
    found = launch(sandbox, "exits.py", cwd=project, options=options)
    assert found.code == 2, found.text
    assert len(found.outcome["attempts"]) == 3
    assert "3 attempts in a row ended in the same way" in found.outcome["no_restart"]
