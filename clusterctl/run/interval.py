"""Between two attempts: the hosts are looked at again, and nothing of the run lives on any of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, TypeVar

import msgspec

from clusterctl.errors import ClusterctlError
from clusterctl.plan.model import LaunchPlan
from clusterctl.run.clock import now
from clusterctl.run.display import Display
from clusterctl.run.leaving import LeftAlone, between_attempts
from clusterctl.run.restart import Again
from clusterctl.settings import RUN
from clusterctl.store import claims
from clusterctl.store.claims import Claim
from clusterctl.store.outcome import EXIT_STOPPED, EXIT_TIMEOUT, Cause, Status
from clusterctl.store.runs import RunDirectory

_LOOK = 0.2
_FENCE = 5.0
"""After the lease and the grace of a host that was lost: its agent has swept by then."""
_T = TypeVar("_T")


class NoMore(Exception):
    """No attempt follows after all. ``why`` is for the operator, empty where nobody would ask."""

    def __init__(self, why: str = "") -> None:
        super().__init__(why)
        self.why = why


class Ended(NoMore):
    """Somebody or something has ended the run meanwhile."""

    def __init__(self, status: Status, exit_code: int, cause: Cause) -> None:
        super().__init__()
        self.status: Status = status
        self.exit_code = exit_code
        self.cause = cause


def stopped() -> Ended:
    """By the operator."""
    cause = Cause(kind="operator", message="stopped by the operator between two attempts")
    return Ended("stopped", EXIT_STOPPED, cause)


class Taken(Exception):
    """Another process, ``by``, supervises the run now."""

    def __init__(self, by: Claim) -> None:
        super().__init__(by)
        self.by = by


class Wishes(msgspec.Struct, frozen=True):
    """What the operator wants meanwhile, of whom this process knows."""

    end: Callable[[], bool]
    leave: Callable[[], bool]


class Interval:
    """Call `await_next`, once."""

    def __init__(
        self,
        plan: LaunchPlan,
        directory: RunDirectory,
        display: Display,
        wishes: Wishes,
        *,
        began: float,
        left_behind: Mapping[str, int | None],
        ordered: float,
    ) -> None:
        """``plan`` is that of the attempt before, which left that behind after it was ``ordered`` to end.
        ``began``: when the run did."""
        self._plan = plan
        self._directory = directory
        self._display = display
        self._wishes = wishes
        self._began = began
        self._left_behind = left_behind
        self._ordered = ordered

    def await_next(self, again: Again, replan: Callable[[], LaunchPlan]) -> LaunchPlan:
        """The next attempt's plan, which the run's directory has then. Raises NoMore, Taken and LeftAlone."""
        self._tell(f"attempt {again.number}, {again.why}: looking at the hosts again")
        try:
            self._display.ending("looking at the hosts again")
            plan = self._wait_for(in_background(replan))
            self._await_silence(plan)
            self._display.ending("")
            self._wait_for(in_background(lambda: self._directory.begin_attempt(plan)))
        except LeftAlone:
            raise
        except ClusterctlError as error:
            raise NoMore(error.message) from error
        except OSError as error:
            raise NoMore(f"this machine: {error}") from error
        for old, new in zip(self._plan.nodes, plan.nodes, strict=True):
            if old.host != new.host:
                self._tell(f"{new.host} takes the place of {old.host}, node rank {new.node_rank}")
        return plan

    def _wait_for(self, answer: Future[_T]) -> _T:
        """The answer, unless an end is wanted before there is one. Raises what it raises."""
        while not answer.done():
            self._heed()
            time.sleep(_LOOK)
        self._heed()
        return answer.result()

    def _await_silence(self, plan: LaunchPlan) -> None:
        """Wait until nothing of the last attempt can live any more on hosts that were given up. Those that
        are used again end it themselves, before they begin. Raises ClusterctlError where that is too long."""
        used = {node.host for node in plan.nodes}
        silent = [host for host, left in self._left_behind.items() if left is None and host not in used]
        if not silent:
            return
        names = ", ".join(silent)
        if self._plan.on_disconnect == "continue":
            raise ClusterctlError(f"{names} may go on without a controller, as --on-disconnect tells it")
        until = self._ordered + RUN.lease_attached + RUN.failure_grace + _FENCE
        if (left := until - now()) > 0:
            self._tell(f"waiting {left:.0f} s: by then {names} has ended its ranks by itself")
        self._display.ending(f"waiting for {names} to have ended its ranks")
        while now() < until:
            self._heed()
            time.sleep(_LOOK)

    def _heed(self) -> None:
        """Raises what ends the run now, where somebody wants that or its time is over."""
        limit, held = self._plan.time_limit, self._directory.supervisor()
        if held is not None and not claims.is_own(held):
            raise Taken(held)
        if self._plan.on_disconnect == "continue" and self._wishes.leave():
            raise between_attempts(self._plan.run)
        if self._wishes.end() or self._directory.stop_asked() is not None:
            raise stopped()
        if limit is not None and now() - self._began > limit:
            cause = Cause(kind="timeout", message=f"the time limit of {limit:g} s was reached")
            raise Ended("timeout", EXIT_TIMEOUT, cause)

    def _tell(self, text: str) -> None:
        """Say and record it, as `Supervisor` does, while there is no recorder."""
        self._display.say(text)
        event: dict[str, Any] = {"event": "say", "time": time.time(), "text": text}
        in_background(lambda: self._directory.append_event(event))


def in_background(do: Callable[[], _T]) -> Future[_T]:
    """In a thread that nobody has to wait for."""
    answer: Future[_T] = Future()

    def work() -> None:
        try:
            answer.set_result(do())
        except BaseException as error:  # noqa: BLE001 - whoever asks for the result is to hear it
            answer.set_exception(error)

    threading.Thread(target=work, name="between attempts", daemon=True).start()
    return answer
