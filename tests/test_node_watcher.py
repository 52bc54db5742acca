"""The process that watches, beside a real agent: told through it, ended with it, missed by nobody."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clusterctl.messages import events
from tests.node_run import PYTHON, NodeRun, wait_until

FAILS_WHEN_TOLD = """
import os, time
while not os.path.exists(os.environ["FOLDER"] + "/go"): time.sleep(0.02)
raise SystemExit(7)
"""
HOT = "0, 00000000:3B:00.0, 95, Active\n"

Make = Callable[..., NodeRun]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """One run whose ranks fail when they are told to, on a host with a hot card."""
    (tmp_path / "bin").mkdir()
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\nprintf '{HOT.strip()}\\n'\nexec sleep 600\n")
    tool.chmod(0o755)
    made: list[NodeRun] = []

    def one(**more: Any) -> NodeRun:
        made.append(NodeRun(tmp_path, [PYTHON, "-c", FAILS_WHEN_TOLD], **more))
        made[-1].job["env"]["PATH"] = f"{tool.parent}:/usr/bin:/bin"
        return made[-1]

    yield one
    for each in made:
        each.close()


def watcher(run: NodeRun) -> int:
    """The pid of the process that watches."""
    found: list[int] = []

    def there() -> bool:
        for pid in run.processes():
            try:
                command = Path(f"/proc/{pid}/cmdline").read_bytes()
            except OSError:
                continue
            if b"code/watches.py" in command and str(run.root).encode() in command:
                found.append(pid)
        return bool(found)

    wait_until(there)
    return found[-1]


def test_what_it_sees_is_an_event_of_the_agent_s_and_it_ends_with_it(make: Make, tmp_path: Path) -> None:
    run = make().start()
    (hot,) = run.wait_for(events.Warned)
    assert (hot.what, hot.subject, hot.over) == ("gpu", "heat of 0", False)
    (tmp_path / "go").touch()
    assert run.wait_end().left == 0
    run.wait_gone()


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_a_run_ends_as_ever_without_it(make: Make, tmp_path: Path, number: int) -> None:
    run = make().start()
    os.kill(watcher(run), number)
    (tmp_path / "go").touch()
    assert run.wait_end().left == 0
    (end,) = run.told(events.RankExited)
    assert end.code == 7
    assert not run.told(events.NodeFailed)
    run.wait_gone()


def test_it_ends_when_the_agent_is_killed(make: Make) -> None:
    run = make().start()
    pid = watcher(run)
    run.wait_for(events.RankStarted)
    os.kill(run.identity["pid"], signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{pid}").exists() or pid not in run.processes())
