"""What each engine does not do to ranks: signal them one by one, or leave them behind."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from clusterctl.sandbox import Sandbox
from tests.integration.launching import PATIENCE, leftovers, start

pytestmark = pytest.mark.sandbox

# Each rank saves only when every other one does, and counts how often it was told.
TOGETHER = """
import os, signal, sys, time
rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
told = []
def save(*_):
    told.append(1)
    open("saving-%d" % rank, "w").close()
    while not all(os.path.exists("saving-%d" % each) for each in range(world)): time.sleep(0.01)
    time.sleep(1.5)  # an engine that looks once a second would have seen the first end by now
    print("saved after", len(told), flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, save)
print("ready", flush=True)
time.sleep(600)
"""
OPTIONS = ["-n", "1", "--gpus-per-node", "2"]


@pytest.mark.parametrize("engine", ["torchrun", "deepspeed"])
def test_ranks_save_together_after_one_signal(sandbox: Sandbox, tmp_path: Path, engine: str) -> None:
    (tmp_path / "together.py").write_text(TOGETHER)
    found = start(sandbox, "together.py", cwd=tmp_path, options=[*OPTIONS, "--engine", engine])
    found.wait_for_ranks(2)
    until = time.monotonic() + PATIENCE
    logs = [found.run / "logs/node1" / f"rank-{rank}.log" for rank in range(2)]
    while not all(log.exists() and "ready" in log.read_text() for log in logs):
        assert time.monotonic() < until
        time.sleep(0.05)
    found.signal()
    found.finish()
    assert found.code == 123, found.text
    assert [log.read_text().split("\n")[-2] for log in logs] == ["saved after 1"] * 2
    assert leftovers(sandbox, found.run.name) == []


@pytest.mark.parametrize("engine", ["torchrun", "deepspeed"])
def test_nothing_survives_an_agent_killed_with_nobody_attached(
    sandbox: Sandbox, tmp_path: Path, engine: str
) -> None:
    (tmp_path / "sleeps.py").write_text("import time; time.sleep(600)")
    found = start(sandbox, "sleeps.py", cwd=tmp_path, options=[*OPTIONS, "--engine", engine])
    found.wait_for_ranks(2)
    agent = next(event["pid"] for event in found.events() if event["event"] == "agent")
    found.signal(signal.SIGKILL)
    found.finish()
    sandbox.host("node1").run(["kill", "-9", str(agent)])
    until = time.monotonic() + PATIENCE
    while left := leftovers(sandbox, found.run.name):
        assert time.monotonic() < until, left
        time.sleep(0.5)
