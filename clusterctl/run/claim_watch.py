"""Whether a run is still this process's own. For the thread of `recorder`: every call asks the disk."""

from __future__ import annotations

import contextlib
import time

from clusterctl.store.claims import Claim, Verb, is_alive, is_own, own_claim
from clusterctl.store.runs import RunDirectory

_SIGN = 2.0


class ClaimWatch:
    """While this process stood still, `stop` or `attach` may have gone to the hosts in its place."""

    def __init__(self, directory: RunDirectory) -> None:
        self._directory = directory
        self._own: Claim | None = None
        self._shown = 0.0

    def take(self, verb: Verb) -> None:
        """This process supervises the run from here on. Raises OSError."""
        self._directory.claim(verb)
        self._own = self._directory.supervisor()

    def keep(self, verb: Verb) -> None:
        """This process has taken the run already, by `RunDirectory.take_claim`."""
        held = self._directory.held()
        self._own = held if held is not None and is_own(held) else own_claim(verb)

    def show_life(self) -> None:
        """Leave a sign of when this process was last seen to. A disk that is full can take it."""
        now = time.monotonic()
        if self._own is not None and now > self._shown + _SIGN:
            self._shown = now
            with contextlib.suppress(OSError):
                self._directory.show_life()

    def taken_by(self) -> Claim | None:
        """The other process that supervises it now."""
        if self._own is not None:
            with contextlib.suppress(OSError):  # no descriptors: who could not look is not displaced
                claim = self._directory.held()
                # That the own one is alive need not be asked.
                return claim if claim is not None and claim != self._own and is_alive(claim) else None
        return None
