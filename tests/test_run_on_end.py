"""The user's command line for the end of a run: what it gets, and how little it can do to the run."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from clusterctl.run import on_end
from clusterctl.store.outcome import Cause, Outcome
from clusterctl.store.runs import RunDirectory
from tests.test_run_machine import plan

CAUSE = Cause(kind="exception", message="ValueError: \x1b[31mboom\n$(touch never)", host="h1", rank=1)
FAILED = Outcome(run="r", status="failed", exit_code=7, cause=CAUSE)


class Ended:
    """A run that is over, in the directory of its launch."""

    def __init__(self, folder: Path, command: str, outcome: Outcome | None = FAILED) -> None:
        self.plan = msgspec.structs.replace(plan(1), on_end=command, launched_in=str(folder))
        self.directory = RunDirectory.create(self.plan)
        if outcome is not None:
            self.directory.write("outcome.json", outcome)
        self.said: list[str] = []

    def carry_out(self, **more: Any) -> list[str]:
        on_end.carry_out(self.plan, self.directory, FAILED, self.said.append, **more)
        return self.said

    @property
    def output(self) -> str:
        return (self.directory.path / on_end.LOG).read_text()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLUSTERCTL_HOME", str(tmp_path / "home"))


def test_it_gets_the_outcome_and_runs_where_the_launch_was_typed(tmp_path: Path) -> None:
    names = " ".join(f'"$CLUSTERCTL_{name}"' for name in ("RUN", "STATUS", "EXIT_CODE", "CAUSE"))
    ended = Ended(tmp_path, f"printf '%s|' {names}; cat \"$CLUSTERCTL_OUTCOME\" >copy; exit")
    assert ended.carry_out() == []
    assert ended.output == r"r|failed|7|h1: ValueError: \x1b[31mboom $(touch never)|"
    assert msgspec.json.decode((tmp_path / "copy").read_bytes(), type=Outcome) == FAILED
    assert (ended.directory.path / on_end.LOG).stat().st_mode & 0o077 == 0
    assert not (tmp_path / "never").exists()


def test_it_is_carried_out_once_whoever_asks(tmp_path: Path) -> None:
    ended = Ended(tmp_path, "echo once >>told")
    for _ in range(3):
        assert ended.carry_out() == []
    assert (tmp_path / "told").read_text() == "once\n"


def test_its_failure_is_said_and_its_output_kept(tmp_path: Path) -> None:
    ended = Ended(tmp_path, "echo no mail >&2; exit 3")
    (said,) = ended.carry_out()
    assert "--on-end ended with exit code 3, which changes nothing of the run" in said
    assert ended.output == "no mail\n"


def test_the_signal_that_ended_it_is_said(tmp_path: Path) -> None:
    (said,) = Ended(tmp_path, "kill -9 $$").carry_out()
    assert "--on-end ended by signal 9" in said


def test_it_is_ended_with_all_it_has_started_when_it_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_end, "_KILL", 0.1)
    monkeypatch.setattr(on_end, "_PATIENCE", 0.1)
    ended = Ended(tmp_path, "trap '' TERM; sleep 600 & echo $! $$; wait; wait; sleep 600")
    waiting, over = ended.carry_out(timeout=1.0)
    assert waiting == "waiting for --on-end, 1 s at most"
    assert "was not over after 1 s and has been ended" in over
    started = [psutil.Process(int(pid)) for pid in ended.output.split() if psutil.pid_exists(int(pid))]
    alive = [each for each in started if each.status() != psutil.STATUS_ZOMBIE]
    assert psutil.wait_procs(alive, timeout=60)[1] == []


def test_a_run_whose_end_another_process_knows_is_left_to_that(tmp_path: Path) -> None:
    ended = Ended(tmp_path, "touch told", outcome=None)
    assert ended.carry_out() == []
    assert not (tmp_path / "told").exists()


def test_a_full_disk_costs_its_output_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = Ended(tmp_path, "echo $CLUSTERCTL_STATUS >told", outcome=None)
    really = os.open

    def full(path: Any, flags: int, *more: Any, **named: Any) -> int:
        if str(path).endswith(on_end.LOG):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return really(path, flags, *more, **named)

    monkeypatch.setattr(os, "open", full)
    assert ended.carry_out(unwritten="no space left") == []
    assert (tmp_path / "told").read_text() == "failed\n"


def test_a_run_without_one_starts_nothing(tmp_path: Path) -> None:
    ended = Ended(tmp_path, "")
    assert ended.carry_out() == []
    assert not (ended.directory.path / on_end.LOG).exists()
