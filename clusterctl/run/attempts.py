"""A run, over as many attempts at it as it takes: each is a whole `Supervisor`, with all its hosts or none.

What decides is `restart`; what happens between two attempts is an `Interval`.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from concurrent.futures import TimeoutError as LateError
from typing import Protocol

import msgspec

from clusterctl.plan.model import LaunchPlan
from clusterctl.run import restart
from clusterctl.run.clock import now
from clusterctl.run.display import Display
from clusterctl.run.interval import Ended, Interval, NoMore, Taken, Wishes, in_background, stopped
from clusterctl.run.leaving import displaced
from clusterctl.run.observed import Observed, Progress
from clusterctl.run.past import AttemptEnd, Past
from clusterctl.run.restart import Again, Over
from clusterctl.run.spent import Timed, spent
from clusterctl.run.supervise import Supervisor
from clusterctl.settings import RUN
from clusterctl.store.claims import Verb
from clusterctl.store.outcome import Attempt, Outcome
from clusterctl.store.runs import RunDirectory

Conclude = Callable[[Outcome], Outcome | AttemptEnd]


class Supervise(Protocol):
    """Makes the supervisor of one attempt; the rest is as `Supervisor` takes it."""

    def __call__(
        self,
        plan: LaunchPlan,
        display: Display,
        *,
        spent: float,
        in_place: dict[str, bool],
        conclude: Conclude,
    ) -> Supervisor: ...


Replan = Callable[[LaunchPlan, tuple[Attempt, ...]], LaunchPlan]
"""Looks at the hosts again after these attempts, and says what the next one is to be. Raises ClusterctlError
where there can be none."""


class Attempts:
    """Call `run` or `take_over`, once; all else may be called from signal handlers and other threads
    meanwhile."""

    def __init__(
        self,
        plan: LaunchPlan,
        directory: RunDirectory,
        display: Display,
        supervise: Supervise,
        replan: Replan | None,
        *,
        max_restarts: int = 0,
        past: Past | None = None,
        without: str = "",
    ) -> None:
        """Without ``replan`` no other attempt follows, whatever becomes of this one; ``without`` says why,
        where one was to be expected. ``past`` is what other controllers have seen of the run."""
        self.plan = plan
        """That of the newest attempt."""
        self._past = past or Past.none()
        self._directory = directory
        self._display = display
        self._supervise = supervise
        self._replan = replan
        self._max_restarts = max_restarts
        self._without = without
        self._ended = list(self._past.ended)
        self._timed = list(self._past.timed)
        self._in_place = dict(self._past.in_place)
        self._again: Again | None = None
        self._verb: Verb = "launch"
        self._unwritten: str | None = None
        self._signal = int(signal.SIGINT)
        self._began_attempt = self._past.attempt_began
        self._observed, self._supervisor = self._next(self._past.progress)

    def interrupt(self, number: int) -> None:
        """As `Supervisor.interrupt`."""
        self._signal = number
        self._supervisor.interrupt(number)

    def hand_on(self, number: int) -> None:
        """As `Supervisor.hand_on`."""
        self._supervisor.hand_on(number)

    def leave(self, number: int) -> None:
        """As `Supervisor.leave`."""
        self._signal = number
        self._supervisor.leave(number)

    @property
    def disk_answers(self) -> bool:
        """As `Supervisor.disk_answers`."""
        return self._supervisor.disk_answers

    @property
    def unwritten(self) -> str:
        """As `Supervisor.unwritten`."""
        return self._supervisor.unwritten if self._unwritten is None else self._unwritten

    def run(self) -> Outcome:
        """Every attempt, and how the last one ended. Raises LeftAlone."""
        return self._follow(self._supervisor.run)

    def take_over(self, verb: Verb) -> Outcome:
        """Go on in place of a controller that is gone, as `Supervisor.take_over`, or with the next attempt
        where it had seen the last to its end. Raises LeftAlone."""
        self._verb = verb
        last = self._ended[-1] if self._ended else None
        if last is None or last.attempt != self.plan.attempt:
            self._supervisor.resumed = self._past.resumed
            return self._follow(lambda: self._supervisor.take_over(verb))
        outcome = self._ending_of(last)
        if verb == "stop":
            return self._kept(self._over(outcome, stopped()))
        decision = self._decide()
        if isinstance(decision, Over):
            return self._kept(self._finished(outcome, decision.why))
        unused = self._supervisor
        over = self._prepare(decision, outcome)
        unused.put_away()
        return over or self._follow(self._run_next)

    def _follow(self, carry_out: Callable[[], Outcome]) -> Outcome:
        while True:
            self._again = None
            outcome = carry_out()
            if self._again is None:
                return outcome
            missing = outcome.incomplete_logs
            self._ended[-1] = msgspec.structs.replace(self._ended[-1], incomplete_logs=missing)
            over = self._prepare(self._again, outcome)
            if over is not None:
                return over
            carry_out = self._run_next

    def _run_next(self) -> Outcome:
        return self._supervisor.run(self._verb)

    def _prepare(self, again: Again, outcome: Outcome) -> Outcome | None:
        """Begin the next attempt; or how the run ended, where there is none after all."""
        before, replan, ended = self._supervisor, self._replan, tuple(self._ended)
        assert replan is not None
        ordered = self._timed[-1].ordered if self._timed else None
        interval = Interval(
            self.plan,
            self._directory,
            self._display,
            Wishes(lambda: before.unwanted, lambda: before.leaves),
            began=self._past.began,
            left_behind=outcome.left_behind,
            ordered=now() if ordered is None else ordered,
        )
        try:
            self.plan = interval.await_next(again, lambda: replan(self.plan, ended))
        except Taken as taken:
            return displaced(self.plan.run, tuple(node.host for node in self.plan.nodes), taken.by)
        except NoMore as over:
            return self._kept(self._over(outcome, over))
        self._began_attempt = now()
        self._observed, self._supervisor = self._next(Progress())
        if before.unwanted:  # it came while nobody was there to hear it
            self._supervisor.interrupt(self._signal)
        return None

    def _next(self, progress: Progress) -> tuple[Observed, Supervisor]:
        observed = Observed(self.plan, self._display, progress=progress, on_first=self._note_first)
        return observed, self._supervise(
            self.plan,
            observed,
            spent=now() - self._past.began,
            in_place=self._in_place,
            conclude=self._conclude,
        )

    def _note_first(self, progress: Progress) -> None:
        self._supervisor.note({"event": "first-step", "time": time.time(), "step": progress.first_step})

    def _finished(self, outcome: Outcome, no_restart: str = "") -> Outcome:
        outcome = restart.finished(outcome, self._ended, no_restart=no_restart)
        return msgspec.structs.replace(outcome, spent=spent(self._timed) if self._timed else None)

    def _conclude(self, outcome: Outcome) -> Outcome | AttemptEnd:
        attempt = self._attempt(outcome)
        timed = self._time(outcome)
        self._ended.append(attempt)
        if len(self._timed) == len(self._ended) - 1:  # else one before us has not written its own down
            self._timed.append(timed)
        hopeless = len(self._ended) == 1 and self._supervisor.began_nowhere
        if self._supervisor.unwanted or hopeless:
            return self._finished(outcome)
        decision = self._decide()
        if isinstance(decision, Again):
            self._again = decision
            return AttemptEnd(ended=attempt, timed=timed)
        return self._finished(outcome, decision.why)

    def _decide(self) -> Again | Over:
        decision = restart.decide(self._ended, max_restarts=self._max_restarts)
        return Over(self._without) if self._replan is None and isinstance(decision, Again) else decision

    def _attempt(self, outcome: Outcome) -> Attempt:
        cause, observed = outcome.cause, self._observed
        said = f"{cause.message}\n{cause.traceback}" if cause is not None else ""
        said += observed.engine_tail.decode("utf-8", "replace")
        progress = observed.progress
        begun = progress.first_step is not None or outcome.status not in ("failed", "error")
        return Attempt(
            attempt=self.plan.attempt,
            status=outcome.status,
            exit_code=outcome.exit_code,
            cause=cause,
            hosts=tuple(node.host for node in self.plan.nodes),
            seconds=round(now() - self._began_attempt, 3),
            first_step=progress.first_step,
            last_step=progress.last_step,
            resumed=self._supervisor.resumed.tag,
            free=not begun and restart.is_port_taken(said, self.plan.master_port),
            left_behind=outcome.left_behind,
        )

    def _time(self, outcome: Outcome) -> Timed:
        """A run that hung trained no more after its last step, however long nobody knew."""
        progress, supervisor = self._observed.progress, self._supervisor
        hung = outcome.status == "hung"
        cause = outcome.cause
        unseen = cause is not None and cause.kind == "lost" and outcome.left_behind.get(cause.host) is None
        return Timed(
            began=self._timed[-1].ended if self._timed else self._past.began,
            ended=now(),
            first_step=progress.first_step,
            last_step=progress.last_step,
            first_at=progress.first_at,
            last_at=progress.last_at,
            failed=progress.last_at if hung else supervisor.failed_at,
            ordered=supervisor.ordered_at,
            at_most=hung or unseen,
            resumed_step=supervisor.resumed.step if supervisor.resumed.tag else None,
        )

    def _ending_of(self, attempt: Attempt) -> Outcome:
        """The same, of a run that ended with it."""
        return Outcome(
            run=self.plan.run,
            status=attempt.status,
            exit_code=attempt.exit_code,
            cause=attempt.cause,
            left_behind=attempt.left_behind,
            incomplete_logs=attempt.incomplete_logs,
            seconds=round(now() - self._past.began, 3),
        )

    def _over(self, outcome: Outcome, over: NoMore) -> Outcome:
        """The run's, where no attempt follows the one that ended with ``outcome``."""
        if isinstance(over, Ended):
            outcome = msgspec.structs.replace(
                self._ending_of(self._ended[-1]),
                status=over.status,
                exit_code=over.exit_code,
                cause=over.cause,
            )
        return self._finished(outcome, over.why)

    def _kept(self, outcome: Outcome) -> Outcome:
        """The outcome of a run that ended between two attempts, written by whoever has no recorder."""
        try:
            in_background(lambda: self._directory.write("outcome.json", outcome)).result(RUN.disk_timeout)
            self._unwritten = ""
        except (OSError, LateError) as error:
            self._unwritten = (
                f"{self._directory.path / 'outcome.json'}: {error or 'the disk does not answer'}"
            )
        return outcome
