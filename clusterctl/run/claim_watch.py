"""Whether a run is still this process's own. For the thread of `recorder`: every call asks the disk."""

from __future__ import annotations

import contextlib

from clusterctl.store.claims import Claim, Verb
from clusterctl.store.outcome import EXIT_STOPPED, Cause, Outcome
from clusterctl.store.runs import RunDirectory


class ClaimWatch:
    """While this process stood still, `clusterctl stop` may have gone to the hosts in its place."""

    def __init__(self, directory: RunDirectory) -> None:
        self._directory = directory
        self._own: Claim | None = None

    def take(self, verb: Verb) -> None:
        """This process supervises the run from here on. Raises OSError."""
        self._directory.claim(verb)
        self._own = self._directory.supervisor()

    def taken_by(self) -> Claim | None:
        """The other process that supervises it now."""
        claim = None
        if self._own is not None:
            with contextlib.suppress(OSError):  # no descriptors: who could not look is not displaced
                claim = self._directory.supervisor()
        return None if claim == self._own else claim


def displaced(run: str, hosts: tuple[str, ...], by: Claim) -> Outcome:
    """What the process that was displaced knows of the end: nothing but who sees to it now."""
    message = f"stopped by the operator (clusterctl stop, process {by.pid}, in place of this one)"
    return Outcome(
        run=run,
        status="stopped",
        exit_code=EXIT_STOPPED,
        cause=Cause(kind="operator", message=message),
        left_behind=dict.fromkeys(hosts),
    )
