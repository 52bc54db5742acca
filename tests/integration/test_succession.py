"""A run whose controllers die, again and again, and that begins again after its failures all the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from clusterctl.sandbox import Sandbox
from tests.integration.launching import PATIENCE, Launch, leftovers, start
from tests.integration.standin import without_torch
from tests.integration.test_restart import COUNTS, has_reached, rank_pid

pytestmark = pytest.mark.sandbox
RANKS = ["--include", "node1@node2", "--gpus-per-node", "1"]


def claim_of(found: Launch) -> dict[str, Any]:
    claim: dict[str, Any] = json.loads((found.run / "supervisor.json").read_text())
    return claim


def kill_controller(found: Launch) -> None:
    controller = psutil.Process(claim_of(found)["pid"])
    controller.kill()
    psutil.wait_procs([controller], timeout=PATIENCE)


def attach(found: Launch, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """From a shell of its own; what it shows is the rest of ``found``."""
    found.process = subprocess.Popen(
        [sys.executable, "-m", "clusterctl", "attach", found.run.name],
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
    )
    return found.process


def kill_rank(sandbox: Sandbox, found: Launch, attempt: int) -> None:
    """Once it has come as far as it comes in this attempt."""
    found.wait_for(lambda events: has_reached(found, attempt, 20 * attempt + 5, events))
    sandbox.host("node2").run(["kill", "-9", str(rank_pid(found.events(), attempt, 1))])


def ends(found: Launch) -> int:
    return sum(event["event"] == "attempt-end" for event in found.events())


@pytest.mark.long
def test_restarts_go_on_whoever_supervises_the_run(sandbox: Sandbox, tmp_path: Path) -> None:
    """Its controller dies in the first attempt, the next one after the second. Neither was told by a file
    what the secret is."""
    (tmp_path / "counts.py").write_text(COUNTS)
    options = ["--detach", *RANKS, "--max-restarts", "2", "--env", "MY_TOKEN=hush", *without_torch(sandbox)]
    found = start(sandbox, "counts.py", "2", cwd=tmp_path, options=options).finish()
    assert found.code == 0, found.text
    kill_controller(found)
    attach(found)
    found.wait_for(lambda events: any("MY_TOKEN was never written" in str(e.get("text")) for e in events))
    without = found.process
    attach(found, {"MY_TOKEN": "hush"})
    found.wait_for(lambda _: claim_of(found)["lacks"] == [])
    without.kill()
    kill_rank(sandbox, found, 1)
    kill_rank(sandbox, found, 2)
    found.wait_for(lambda _: ends(found) == 2)
    found.process.kill()  # so that nobody else begins a new one
    kill_controller(found)
    attach(found, {"MY_TOKEN": "hush"})
    found.finish()
    assert found.code == 0, found.text
    outcome = found.outcome
    assert (outcome["status"], outcome["restarts"]) == ("succeeded", 2), outcome
    assert [(each["first_step"], each["last_step"]) for each in outcome["attempts"]] == [
        (1, 25),
        (21, 45),
        (41, 100),
    ]
    spent = outcome["spent"]
    parts = sum(spent[name] for name in ("start", "detection", "stop", "lost", "productive"))
    assert parts == pytest.approx(spent["seconds"], abs=0.01) and spent["lost_steps"] == 10
    assert set(outcome["left_behind"].values()) == {0} and leftovers(sandbox, found.run.name) == []


@pytest.mark.long
@pytest.mark.parametrize("engine", ["torchrun", "deepspeed"])
def test_a_controller_killed_three_times_costs_no_attempt(
    sandbox: Sandbox, tmp_path: Path, engine: str
) -> None:
    """With the engines themselves, not their stand-in. A rank is killed in between, and once more."""
    (tmp_path / "counts.py").write_text(COUNTS)
    options = ["--detach", *RANKS, "--max-restarts", "2", "--engine", engine]
    found = start(sandbox, "counts.py", "2", cwd=tmp_path, options=options).finish()
    assert found.code == 0, found.text
    attach(found)
    for attempt in (1, 2):
        found.wait_for(partial(has_reached, found, attempt, 20 * attempt + 5))
        before = claim_of(found)["pid"]
        kill_controller(found)
        found.wait_for(partial(has_another_than, found, before))
        kill_rank(sandbox, found, attempt)
    found.wait_for(lambda _: ends(found) == 2)
    found.process.kill()
    kill_controller(found)
    attach(found)
    found.finish()
    outcome = found.outcome
    assert (found.code, outcome["status"], outcome["restarts"]) == (0, "succeeded", 2), found.text
    assert [each["last_step"] for each in outcome["attempts"]] == [25, 45, 100]
    assert all(each["incomplete_logs"] == [] for each in outcome["attempts"])
    assert set(outcome["left_behind"].values()) == {0} and leftovers(sandbox, found.run.name) == []


def has_another_than(found: Launch, before: int, events: object) -> bool:
    """Whether another process supervises it now."""
    return bool(claim_of(found)["pid"] != before)
