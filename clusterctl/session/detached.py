"""A run that another process of this machine supervises: it needs neither this process nor a terminal."""

from __future__ import annotations

import time
from pathlib import Path

from clusterctl.errors import ClusterctlError
from clusterctl.plan.model import LaunchPlan
from clusterctl.run.display import Display
from clusterctl.session.controller import Controller, Start
from clusterctl.session.ending import conclude
from clusterctl.session.launch import Prepared
from clusterctl.session.recorded import RecordedRun
from clusterctl.session.run import make_directory, take_over
from clusterctl.store.outcome import Outcome
from clusterctl.store.runs import find_run

_LOOK = 0.2


class DetachedRun(RecordedRun):
    """One run, by its directory. `find` it again from any process on its controller."""

    @classmethod
    def find(cls, run: str = "") -> DetachedRun:
        """By its id or a beginning of that; without one the newest that runs, else the newest."""
        return cls(find_run(run or None))

    @classmethod
    def create(cls, prepared: Prepared) -> DetachedRun:
        """Of a launch that is about to happen: its directory is made, nothing is started."""
        return cls(make_directory(prepared))

    def start(self, prepared: Prepared) -> Controller:
        """Have a process of its own start all ranks, and supervise them."""
        return Controller(self._directory, Start(ready=prepared.ready, cwd=Path.cwd()))

    @property
    def plan(self) -> LaunchPlan:
        return self._directory.plan()

    @property
    def outcome(self) -> Outcome | None:
        """How it ended; None while it goes on, and when its controller died before it could say."""
        return self._directory.outcome()

    def wait(self, timeout: float | None = None) -> Outcome:
        """Until it is over. Raises TimeoutError after ``timeout`` seconds, and ClusterctlError when nobody
        supervises it any more; the run goes on in both cases."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            supervised = self._directory.supervised()
            outcome = self.outcome
            if outcome is not None:
                return outcome
            if not supervised:
                raise ClusterctlError(
                    f"nobody supervises run {self.id} any more", hint=f"clusterctl attach {self.id}"
                )
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"run {self.id} goes on after {timeout:g} s")
            time.sleep(_LOOK)

    def stop(self, *, now: bool = False) -> Outcome:
        """End it on all hosts and wait for that, whoever supervises it. Scripts get 30 s to save, with
        ``now`` none. What is over already stays as it ended."""
        if (outcome := self.outcome) is not None:
            return outcome
        self._directory.ask_to_stop(now=now)
        while True:
            if self._directory.take_claim("stop") is None:
                return self.outcome or self._take_over()
            try:
                return self.wait()
            except ClusterctlError:
                continue

    def _take_over(self) -> Outcome:
        outcome = take_over(self._directory, Display())
        conclude(self.plan, self._directory, outcome, lambda _: None)
        return outcome

    def _pause(self) -> bool:
        time.sleep(_LOOK)
        supervised = self._directory.supervised()
        return self.outcome is not None or not supervised

    def __repr__(self) -> str:
        outcome = self.outcome
        return f"<DetachedRun {self.id}: {outcome.status if outcome else 'running'}>"
