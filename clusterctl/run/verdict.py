"""How a run ended, by what ended it. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from clusterctl.run import cause as causes
from clusterctl.run.states import HostRecord
from clusterctl.settings import RunDefaults
from clusterctl.store.outcome import (
    EXIT_HUNG,
    EXIT_INTERNAL,
    EXIT_LOST,
    EXIT_REFUSED,
    EXIT_STOPPED,
    EXIT_TIMEOUT,
    Cause,
    Outcome,
    Status,
)


class Verdict:
    """Collects what went wrong, and judges it at the end."""

    def __init__(self, defaults: RunDefaults) -> None:
        self.ordered: Cause | None = None
        """Why the hosts were told to stop, where no failure was the reason."""
        self._defaults = defaults
        self.failures: list[causes.Failure] = []
        self._collateral: list[Cause] = []

    def add(self, failure: causes.Failure) -> None:
        """One of those among which the cause is found, by `cause.first`."""
        self.failures.append(failure)

    def add_collateral(self, cause: Cause) -> None:
        """What failed because something else had failed, or been ordered, before."""
        self._collateral.append(cause)

    def explains_engine(self, node_rank: int) -> bool:
        """Whether it is known why the engine of this node ends: by a failure of its own ranks, or by one that
        stands for itself elsewhere. That somebody's peer is gone is what the end of an engine looks like; so
        it is where a rank of its own says that after the engine had ended another."""
        own = [failure for failure in self.failures if self._is_own(failure, node_rank)]
        told = min((failure.at for failure in own if failure.weight == causes.Weight.TOLD), default=math.inf)
        return any(
            failure.weight < causes.Weight.PEER
            or (failure in own and failure.weight == causes.Weight.PEER and failure.at <= told)
            for failure in self.failures
        )

    @staticmethod
    def _is_own(failure: causes.Failure, node_rank: int) -> bool:
        return failure.cause.node_rank == node_rank

    @property
    def failed_at(self) -> float | None:
        """When the cause had happened, in seconds since the epoch; None without a failure."""
        return self._first().at if self.failures else None

    def _first(self) -> causes.Failure:
        limits = self._defaults
        return causes.first(self.failures, clock=limits.clock_error, late=limits.noticed_late)

    def outcome(
        self, run: str, hosts: Sequence[HostRecord], stopping: Status | None, seconds: float
    ) -> Outcome:
        """``stopping``: as what the run was stopped first. Without any failure or order it has succeeded."""
        status, code, cause = self._judge(stopping)
        in_time = sorted(self.failures, key=lambda failure: failure.at)
        others = [failure.cause for failure in in_time if failure.cause != cause]
        return Outcome(
            run=run,
            status=status,
            exit_code=code,
            cause=cause,
            collateral=(*others, *self._collateral),
            left_behind={host.host: host.left if host.complete else None for host in hosts},
            seconds=seconds,
        )

    def _judge(self, stopping: Status | None) -> tuple[Status, int, Cause | None]:
        if self.ordered and stopping == "refused":
            return "refused", EXIT_REFUSED, self.ordered
        if self.ordered and stopping == "timeout":
            return "timeout", EXIT_TIMEOUT, self.ordered
        if self.ordered and stopping == "hung":
            return "hung", EXIT_HUNG, self.ordered
        if self.ordered and stopping == "stopped":
            return "stopped", EXIT_STOPPED, self.ordered
        if not self.failures:
            return "succeeded", 0, None
        cause = self._first().cause
        if cause.kind == "operator":
            return "stopped", EXIT_STOPPED, cause
        if cause.kind == "lost":
            return "lost", EXIT_LOST, cause
        if cause.kind == "internal":
            return "error", EXIT_INTERNAL, cause
        return "failed", cause.exit_code or 1, cause
