"""How a run ended, by what ended it. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from clusterctl.run import cause as causes
from clusterctl.settings import RunDefaults
from clusterctl.store.outcome import (
    EXIT_INTERNAL,
    EXIT_LOST,
    EXIT_REFUSED,
    EXIT_STOPPED,
    EXIT_TIMEOUT,
    Cause,
    Status,
)


def verdict(
    stopping: Status | None,
    stop_cause: Cause | None,
    failures: Sequence[causes.Failure],
    defaults: RunDefaults,
) -> tuple[Status, int, Cause | None]:
    """Status, exit code and cause. ``stopping`` and ``stop_cause``: why the hosts were told to stop, where no
    failure was the reason. The failures are judged by `cause.first`; without any, the run has succeeded."""
    if stop_cause and stopping == "refused":
        return "refused", EXIT_REFUSED, stop_cause
    if stop_cause and stopping == "timeout":
        return "timeout", EXIT_TIMEOUT, stop_cause
    if stop_cause and stopping == "stopped":
        return "stopped", EXIT_STOPPED, stop_cause
    if not failures:
        return "succeeded", 0, None
    cause = causes.first(failures, clock=defaults.clock_error, late=defaults.noticed_late).cause
    if cause.kind == "lost":
        return "lost", EXIT_LOST, cause
    if cause.kind == "internal":
        return "error", EXIT_INTERNAL, cause
    return "failed", cause.exit_code or 1, cause
