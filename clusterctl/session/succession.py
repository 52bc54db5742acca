"""Sees to it that a run has a controller: `clusterctl attach` begins one where the last is gone."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from clusterctl.errors import ClusterctlError
from clusterctl.session.controller import Broke, Controller, TakeOver
from clusterctl.store.claims import Claim, is_suspended, wake
from clusterctl.store.runs import RunDirectory

_STILL = 10.0
_TRIES = 3


class Succession:
    """Call `see_to_it` often. A controller that lives is left alone, but for one that lacks what this process
    has; one that stands still is woken, and replaced when it does so all the same; where there is none, a new
    one is begun."""

    def __init__(self, directory: RunDirectory, say: Callable[[str], None]) -> None:
        self._directory = directory
        self._say = say
        self._begun: Controller | None = None
        self._tries = 0
        self._still: Claim | None = None
        self._still_since = 0.0

    def see_to_it(self) -> None:
        """Raises ClusterctlError where no controller can be had."""
        held = self._directory.supervisor()
        if held is not None and is_suspended(held):
            self._wait_for(held)
        elif held is not None and held.lacks and all(name in os.environ for name in held.lacks):
            self._begin(held)
        elif held is not None:
            self._still = self._begun = None
        else:
            self._begin(None)

    def _wait_for(self, held: Claim) -> None:
        if self._still != held:
            self._still, self._still_since = held, time.monotonic()
            if wake(held):
                self._say(f"its controller (process {held.pid}) was suspended and has been woken")
        elif time.monotonic() > self._still_since + _STILL:
            self._begin(held)

    def _begin(self, instead_of: Claim | None) -> None:
        if self._begun is not None and not self._begun.ended:
            news = self._begun.news(0.0)
            if isinstance(news, Broke):
                raise ClusterctlError(news.message, hint=news.hint)
            return
        if self._directory.outcome() is not None:
            return
        if self._tries == _TRIES:
            run, log = self._directory.run, self._directory.path / "controller.log"
            raise ClusterctlError(
                f"{_TRIES} controllers of run {run} have ended before it",
                hint=f"{log} says why; clusterctl stop {run} ends it",
            )
        self._tries += 1
        what = "is dead"
        if instead_of is not None:
            lacks = f"lacks {', '.join(instead_of.lacks)}" if instead_of.lacks else "stands still"
            what = f"(process {instead_of.pid}) {lacks}"
        self._say(f"its controller {what}; a new one goes to the hosts, in the background")
        self._begun = Controller(self._directory, TakeOver(instead_of=instead_of))
