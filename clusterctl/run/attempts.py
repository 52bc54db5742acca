"""A run, over as many attempts at it as it takes: each is a whole `Supervisor`, with all its hosts or none.

What decides is `restart`; between two attempts nothing of the run lives on any host.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as LateError
from typing import Protocol, TypeVar

import msgspec

from clusterctl.errors import ClusterctlError
from clusterctl.plan.model import LaunchPlan
from clusterctl.run import restart
from clusterctl.run.display import Display
from clusterctl.run.observed import Observed
from clusterctl.run.restart import Again
from clusterctl.run.spent import Timed, spent
from clusterctl.run.supervise import Supervisor
from clusterctl.settings import RUN
from clusterctl.store.claims import Verb
from clusterctl.store.outcome import (
    EXIT_INTERNAL,
    EXIT_STOPPED,
    EXIT_TIMEOUT,
    Attempt,
    Cause,
    Outcome,
    Status,
)
from clusterctl.store.runs import RunDirectory

_LOOK = 0.2
_FENCE = 5.0
"""After the lease and the grace of a host that was lost: its agent has swept by then."""
_STOPPED = Cause(kind="operator", message="stopped by the operator between two attempts")
_DIED = Cause(kind="internal", message="the controller ended between two attempts")
_T = TypeVar("_T")

Conclude = Callable[[Outcome], Outcome | Attempt]


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
    """Call `run`, once; all else may be called from signal handlers and other threads meanwhile."""

    def __init__(
        self,
        plan: LaunchPlan,
        directory: RunDirectory,
        display: Display,
        supervise: Supervise,
        replan: Replan | None,
        *,
        max_restarts: int = 0,
        ended: Sequence[Attempt] = (),
    ) -> None:
        """Without ``replan`` no other attempt follows, whatever becomes of this one. ``ended`` are those that
        another controller saw to their end."""
        self.plan = plan
        """That of the newest attempt."""
        self._directory = directory
        self._display = display
        self._supervise = supervise
        self._replan = replan
        self._max_restarts = max_restarts
        self._ended = list(ended)
        self._in_place: dict[str, bool] = {}
        self._again: Again | None = None
        self._began = time.monotonic() - sum(each.seconds for each in ended)
        self._began_at = time.time()
        self._timed: list[Timed] = []
        self._spent = 0.0
        self._unwritten: str | None = None
        self._signal = int(signal.SIGINT)
        self._observed, self._supervisor = self._next()

    def interrupt(self, number: int) -> None:
        """As `Supervisor.interrupt`."""
        self._signal = number
        self._supervisor.interrupt(number)

    def hand_on(self, number: int) -> None:
        """As `Supervisor.hand_on`."""
        self._supervisor.hand_on(number)

    def leave(self, number: int) -> None:
        """As `Supervisor.leave`. Between two attempts there is nothing to leave: the run ends."""
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
        """Every attempt, and how the last one ended."""
        while True:
            self._again = None
            outcome = self._supervisor.run()
            if self._again is None:
                return outcome
            missing = outcome.incomplete_logs
            self._ended[-1] = msgspec.structs.replace(self._ended[-1], incomplete_logs=missing)
            plan = self._await_next(self._again, outcome)
            if isinstance(plan, Outcome):
                return self._kept(plan)
            for old, new in zip(self.plan.nodes, plan.nodes, strict=True):
                if old.host != new.host:
                    self._tell(f"{new.host} takes the place of {old.host}, node rank {new.node_rank}")
            self.plan = plan
            before = self._supervisor
            self._observed, self._supervisor = self._next()
            if before.unwanted:  # it came while nobody was there to hear it
                self._supervisor.interrupt(self._signal)

    def take_over(self, verb: Verb) -> Outcome:
        """As `Supervisor.take_over`; where the other controller died between two attempts, there is nothing
        left to follow."""
        if self._ended and self._ended[-1].attempt == self.plan.attempt:
            if verb == "stop":
                return self._kept(self._ended_between("stopped", EXIT_STOPPED, _STOPPED))
            return self._kept(self._ended_between("error", EXIT_INTERNAL, _DIED))
        return self._supervisor.take_over(verb)

    def _next(self) -> tuple[Observed, Supervisor]:
        self._spent = time.monotonic() - self._began
        observed = Observed(self.plan, self._display)
        return observed, self._supervise(
            self.plan, observed, spent=self._spent, in_place=self._in_place, conclude=self._conclude
        )

    def _finished(self, outcome: Outcome, no_restart: str = "") -> Outcome:
        outcome = restart.finished(outcome, self._ended, no_restart=no_restart)
        return msgspec.structs.replace(outcome, spent=spent(self._timed) if self._timed else None)

    def _conclude(self, outcome: Outcome) -> Outcome | Attempt:
        attempt = self._attempt(outcome)
        self._ended.append(attempt)
        if len(self._timed) == len(self._ended) - 1:  # not after another controller, who saw the steps before
            self._timed.append(self._time(hung=outcome.status == "hung"))
        hopeless = len(self._ended) == 1 and self._supervisor.began_nowhere
        if self._replan is None or self._supervisor.unwanted or hopeless:
            return self._finished(outcome)
        decision = restart.decide(self._ended, max_restarts=self._max_restarts)
        if isinstance(decision, Again):
            self._again = decision
            return attempt
        return self._finished(outcome, decision.why)

    def _attempt(self, outcome: Outcome) -> Attempt:
        cause, observed = outcome.cause, self._observed
        said = f"{cause.message}\n{cause.traceback}" if cause is not None else ""
        said += observed.engine_tail.decode("utf-8", "replace")
        begun = observed.first_step is not None or outcome.status not in ("failed", "error")
        return Attempt(
            attempt=self.plan.attempt,
            status=outcome.status,
            exit_code=outcome.exit_code,
            cause=cause,
            hosts=tuple(node.host for node in self.plan.nodes),
            seconds=round(outcome.seconds - self._spent, 3),
            first_step=observed.first_step,
            last_step=observed.last_step,
            resumed=self._supervisor.resumed.tag,
            free=not begun and restart.is_port_taken(said, self.plan.master_port),
            left_behind=outcome.left_behind,
        )

    def _time(self, *, hung: bool) -> Timed:
        """A run that ``hung`` trained no more after its last step, however long nobody knew."""
        observed, supervisor = self._observed, self._supervisor
        return Timed(
            began=self._timed[-1].ended if self._timed else self._began_at,
            ended=time.time(),
            first_step=observed.first_step,
            last_step=observed.last_step,
            first_at=observed.first_at,
            last_at=observed.last_at,
            failed=observed.last_at if hung else supervisor.failed_at,
            ordered=supervisor.ordered_at,
            resumed_step=supervisor.resumed.step if supervisor.resumed.tag else None,
        )

    def _await_next(self, again: Again, outcome: Outcome) -> LaunchPlan | Outcome:
        """The next attempt's plan, or the run's outcome where there is none after all."""
        self._tell(f"attempt {again.number}, {again.why}: looking at the hosts again")
        replan, ended = self._replan, tuple(self._ended)
        assert replan is not None
        try:
            plan = self._unless_ended(_in_background(lambda: replan(self.plan, ended)))
            if isinstance(plan, Outcome):
                return plan
            ordered = self._await_silence(plan, outcome)
            begun = ordered or self._unless_ended(_in_background(lambda: self._directory.begin_attempt(plan)))
        except ClusterctlError as error:
            return self._finished(outcome, error.message)
        except OSError as error:
            return self._finished(outcome, f"this machine: {error}")
        return begun or plan

    def _unless_ended(self, answer: Future[_T]) -> _T | Outcome:
        """The answer, or how the run ends where that is wanted before there is one. Raises what it raises."""
        while not answer.done():
            if (ordered := self._order_to_end()) is not None:
                return ordered
            time.sleep(_LOOK)
        return answer.result()

    def _await_silence(self, plan: LaunchPlan, outcome: Outcome) -> Outcome | None:
        """Wait until nothing of the last attempt can live any more on hosts that were given up. Those that
        are used again end it themselves, before they begin. Raises ClusterctlError where that is too long."""
        used = {node.host for node in plan.nodes}
        silent = [host for host, left in outcome.left_behind.items() if left is None and host not in used]
        if not silent:
            return None
        names = ", ".join(silent)
        if self.plan.on_disconnect == "continue":
            raise ClusterctlError(f"{names} may go on without a controller, as --on-disconnect tells it")
        since = self._supervisor.ordered_at or time.time()
        until = since + RUN.lease_attached + RUN.failure_grace + _FENCE
        if (left := until - time.time()) > 0:
            self._tell(f"waiting {left:.0f} s: by then {names} has ended its ranks by itself")
        while time.time() < until:
            if (ordered := self._order_to_end()) is not None:
                return ordered
            time.sleep(_LOOK)
        return None

    def _tell(self, text: str) -> None:
        """Say and record it, as `Supervisor` does, while there is no recorder."""
        self._display.say(text)
        event = {"event": "say", "time": time.time(), "text": text}
        _in_background(lambda: self._directory.append_event(event))

    def _order_to_end(self) -> Outcome | None:
        """How the run ends now, where somebody wants that or its time is over."""
        limit = self.plan.time_limit
        if self._supervisor.unwanted or self._directory.stop_asked() is not None:
            return self._ended_between("stopped", EXIT_STOPPED, _STOPPED)
        if limit is not None and time.monotonic() - self._began > limit:
            cause = Cause(kind="timeout", message=f"the time limit of {limit:g} s was reached")
            return self._ended_between("timeout", EXIT_TIMEOUT, cause)
        return None

    def _ended_between(self, status: Status, code: int, cause: Cause) -> Outcome:
        last = self._ended[-1]
        outcome = Outcome(
            run=self.plan.run,
            status=status,
            exit_code=code,
            cause=cause,
            left_behind=last.left_behind,
            incomplete_logs=last.incomplete_logs,
            seconds=round(time.monotonic() - self._began, 3),
        )
        return self._finished(outcome)

    def _kept(self, outcome: Outcome) -> Outcome:
        """The outcome of a run that ended between two attempts, written by whoever has no recorder."""
        try:
            _in_background(lambda: self._directory.write("outcome.json", outcome)).result(RUN.disk_timeout)
            self._unwritten = ""
        except (OSError, LateError) as error:
            self._unwritten = (
                f"{self._directory.path / 'outcome.json'}: {error or 'the disk does not answer'}"
            )
        return outcome


def _in_background(do: Callable[[], _T]) -> Future[_T]:
    """In a thread that nobody has to wait for."""
    answer: Future[_T] = Future()

    def work() -> None:
        try:
            answer.set_result(do())
        except BaseException as error:  # noqa: BLE001 - whoever asks for the result is to hear it
            answer.set_exception(error)

    threading.Thread(target=work, name="between attempts", daemon=True).start()
    return answer
