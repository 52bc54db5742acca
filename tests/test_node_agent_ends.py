"""Which ends of ranks an agent calls its own doing or its engine's: real files, no process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clusterctl.node.run import rank
from clusterctl.node.run.agent import Agent

KEY_ERROR = {"type": "KeyError", "message": "'x'", "traceback": "", "time": 10.0}
GONE = 2**22 + 1  # above the largest pid


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    job = {"run": "r", "node_rank": 0, "ranks": [0, 1, 2], "failure_grace": 1.5}
    (tmp_path / "job.json").write_text(json.dumps(job))
    for each in range(3):
        write(tmp_path, "start", each, local_rank=each, pid=GONE, waiter=os.getpid(), time=1.0)
    return Agent(str(tmp_path))


def write(folder: Path, kind: str, number: int, **content: Any) -> None:
    (folder / f"{kind}-{number}.json").write_text(json.dumps({"rank": number} | content))


def ends(folder: Path, number: int, ended: float, code: int = 1, **more: Any) -> None:
    killed = code - 128 if code > 128 else None
    usual = {"started": 1.0, "ended": ended, "asked": None, "peak_memory": 0}
    write(folder, "exit", number, code=code, signal=killed, **(usual | more))


def told(folder: Path) -> dict[int, bool]:
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    return {event["rank"]: event["told"] for event in events if event["event"] == "rank-exit"}


def test_a_rank_that_raised_is_its_own_whatever_ended_it(agent: Agent, tmp_path: Path) -> None:
    write(tmp_path, "error", 1, **KEY_ERROR)
    ends(tmp_path, 0, 11.0, 143, asked=10.9)
    ends(tmp_path, 1, 12.0, 143, asked=10.9)
    agent.note_ranks()
    assert told(tmp_path) == {0: True, 1: False}


def test_what_is_raised_after_the_order_is_collateral(agent: Agent, tmp_path: Path) -> None:
    write(tmp_path, "error", 1, **KEY_ERROR)
    ends(tmp_path, 1, 12.0, asked=9.9)
    agent.note_ranks()
    assert told(tmp_path) == {1: True}


def test_a_kill_that_neither_we_nor_the_engine_sent_is_no_collateral(agent: Agent, tmp_path: Path) -> None:
    agent.stopped_at = 10.0
    ends(tmp_path, 0, 10.2, 137)
    ends(tmp_path, 1, 45.0, 137, asked=10.0)
    agent.note_ranks()
    assert told(tmp_path) == {0: False, 1: True}
    agent.killed_at = 11.0
    ends(tmp_path, 2, 11.1, 137)
    agent.note_ranks()
    assert told(tmp_path)[2] is True


def test_a_rank_signalled_before_its_waiter_is_the_engines_doing(agent: Agent, tmp_path: Path) -> None:
    ends(tmp_path, 1, 10.0, 7)
    ends(tmp_path, 0, 10.1, 143)
    agent.note_ranks()
    assert told(tmp_path) == {1: False, 0: True}


def test_a_sigterm_from_nobody_we_know_is_no_collateral(agent: Agent, tmp_path: Path) -> None:
    ends(tmp_path, 2, 10.0, 143)
    agent.note_ranks()
    assert told(tmp_path) == {2: False}


def test_a_report_that_appears_during_the_look_is_seen_before_what_it_caused(
    agent: Agent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from clusterctl.node.run import agent as module

    read: Callable[[str], Any] = module.read_json
    looked: list[str] = []

    def rank_0_fails_behind_our_back(path: str) -> Any:
        found = read(path)
        if path.endswith("exit-0.json") and not looked:
            looked.append(path)
            ends(tmp_path, 0, 10.0, 7)
            ends(tmp_path, 1, 10.1, 143)
        return found

    monkeypatch.setattr(module, "read_json", rank_0_fails_behind_our_back)
    agent.note_ranks()
    assert told(tmp_path) == {0: False, 1: True}


def test_a_rank_whose_waiter_was_killed_is_reported_by_the_agent(agent: Agent, tmp_path: Path) -> None:
    write(tmp_path, "start", 1, local_rank=1, pid=GONE, waiter=GONE, time=1.0)
    ends(tmp_path, 0, 10.0, 143, asked=9.9)
    ends(tmp_path, 2, 10.0, 143, asked=9.9)
    agent.note_ranks()
    assert told(tmp_path) == {0: True, 2: True, 1: False}


@pytest.mark.parametrize("error", [KEY_ERROR, None])
def test_what_was_killed_with_its_waiter_is_judged_by_what_it_raised(
    agent: Agent, tmp_path: Path, error: dict[str, Any] | None
) -> None:
    agent.stopped_at, agent.killed_at = 10.5, 12.0
    if error:
        write(tmp_path, "error", 1, **error)
    agent.note_unreported()
    assert told(tmp_path) == {0: True, 1: error is None, 2: True}


def test_the_waiter_says_when_it_was_asked(tmp_path: Path) -> None:
    program = tmp_path / "code/clusterctl_node/run/rank.py"
    program.parent.mkdir(parents=True)
    program.write_text(Path(rank.__file__).read_text())
    (tmp_path / "logs").mkdir()
    script = (
        "import os, signal, time; signal.signal(signal.SIGTERM, lambda *_: os._exit(3));"
        "open('ready', 'w').close(); time.sleep(600)"
    )
    job = {
        "ranks": [0], "node_rank": 0, "command": [sys.executable, "-c", script], "pass_local_rank": False,
        "arguments": [], "cwd": str(tmp_path),
    }  # fmt: skip
    (tmp_path / "job.json").write_text(json.dumps(job))
    waiter = subprocess.Popen(
        [sys.executable, str(program)], env={**os.environ, "RANK": "0"}, start_new_session=True
    )
    while not (tmp_path / "ready").exists():
        assert waiter.poll() is None
        time.sleep(0.01)
    os.killpg(waiter.pid, signal.SIGTERM)
    assert waiter.wait(60) == 3
    end = json.loads((tmp_path / "exit-0.json").read_text())
    assert end["started"] < end["asked"] <= end["ended"]
    assert json.loads((tmp_path / "start-0.json").read_text())["waiter"] == waiter.pid
