"""How a controller lets go of a run that is not over: another process has it, or its hosts go on alone."""

from __future__ import annotations

import signal

from clusterctl.errors import ClusterctlError
from clusterctl.store.claims import Claim
from clusterctl.store.outcome import EXIT_STOPPED, Cause, Outcome


class LeftAlone(ClusterctlError):
    """This process has left a run that goes on."""

    exit_code = 128 + signal.SIGTERM


def without_controller(run: str, lease: float) -> LeftAlone:
    """Its hosts go on by themselves."""
    return LeftAlone(
        f"run {run} goes on without its controller, for {lease / 3600:g} h at most",
        hint=f"clusterctl attach {run} supervises it again, clusterctl stop {run} ends it",
    )


def between_attempts(run: str) -> LeftAlone:
    """Nothing of it lives on any host, and nobody begins its next attempt meanwhile."""
    return LeftAlone(
        f"run {run} is left between two attempts: nothing of it runs",
        hint=f"clusterctl attach {run} begins the next, clusterctl stop {run} ends it",
    )


def displaced(run: str, hosts: tuple[str, ...], by: Claim) -> Outcome:
    """What the process that was displaced knows of the end: nothing but who sees to it now. Raises LeftAlone
    where that process does not end the run."""
    if by.verb != "stop":
        message = f"run {run} goes on, supervised by process {by.pid} in place of this one"
        raise LeftAlone(message, hint=f"clusterctl attach {run} shows it")
    message = f"stopped by the operator (clusterctl stop, process {by.pid}, in place of this one)"
    return Outcome(
        run=run,
        status="stopped",
        exit_code=EXIT_STOPPED,
        cause=Cause(kind="operator", message=message),
        left_behind=dict.fromkeys(hosts),
    )
