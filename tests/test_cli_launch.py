"""`launch` shows a run to its end, and then ends with the code that it has told."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from clusterctl.cli import following
from clusterctl.cli.interrupts import Interrupts
from clusterctl.plan.model import LaunchPlan
from clusterctl.run.display import Display
from clusterctl.session.run import Run
from clusterctl.store.outcome import Outcome
from clusterctl.store.runs import RunDirectory
from tests.test_run_machine import plan as small_plan

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


@pytest.fixture(autouse=True)
def own_signals() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Stopped:
    """Stands for a run that is interrupted once and ends by that."""

    def __init__(self, plan: LaunchPlan) -> None:
        self.plan = plan
        self.id = plan.run
        self.path = RunDirectory.create(plan).path
        self.unwritten = ""
        self.disk_answers = True
        self.heard: list[int] = []
        self.on_end_said: list[str] = []

    def start(self, display: Display) -> None:
        return

    def interrupt(self, number: int) -> None:
        self.heard.append(number)

    leave = interrupt

    def settle(self, timeout: float) -> bool:
        return True

    def hand_on(self, number: int) -> None:
        self.heard.append(number)

    def wait(self) -> Outcome:
        for number in SIGNALS:
            os.kill(os.getpid(), number)
        return Outcome(run=self.plan.run, status="stopped", exit_code=123, left_behind={"h0": 0})


def test_an_interrupt_that_python_has_lost_comes_before_anything_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLUSTERCTL_HOME", str(tmp_path))
    run = Stopped(small_plan(1))
    monkeypatch.setattr(run, "start", lambda _: pytest.fail("started"))
    interrupts = Interrupts()
    interrupts.came = True
    signal.signal(signal.SIGINT, interrupts)
    with pytest.raises(KeyboardInterrupt):
        following.follow(cast(Run, run))


def test_signals_reach_the_run_until_its_outcome_is_told_and_nobody_after_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLUSTERCTL_HOME", str(tmp_path))
    run = Stopped(small_plan(1))
    assert following.follow(cast(Run, run)) == 123
    assert sorted(run.heard) == sorted(SIGNALS)
    for number in SIGNALS[1:]:
        for _ in range(3):
            os.kill(os.getpid(), number)  # each would end this process by its default, and a launch
    assert sorted(run.heard) == sorted(SIGNALS)
