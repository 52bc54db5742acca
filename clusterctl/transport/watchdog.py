"""Cuts what is still under way when its time is over.

paramiko waits without limit in several places (the answer to an exec request, a write to a full socket);
closing the connection from another thread ends every one of them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

_IDLE = 5.0


class Watchdog:
    """One thread for any number of guarded blocks. The thread ends when nothing is guarded."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._guards: dict[int, tuple[float, Callable[[], None]]] = {}
        self._next = 0
        self._running = False
        self._wakes = 0.0
        """When the thread looks next by itself: a guard that is due no earlier need not wake it."""

    @contextmanager
    def guard(self, deadline: float, cut: Callable[[], None]) -> Iterator[None]:
        """Call ``cut`` from another thread if the block is not left before ``deadline`` (time.monotonic)."""
        with self._changed:
            self._next += 1
            ticket = self._next
            self._guards[ticket] = (deadline, cut)
            if not self._running:
                self._running = True
                threading.Thread(target=self._watch, name="watchdog", daemon=True).start()
            elif deadline < self._wakes:
                self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                self._guards.pop(ticket, None)

    def _watch(self) -> None:
        while True:
            with self._changed:
                now = time.monotonic()
                due = [ticket for ticket, (deadline, _) in self._guards.items() if deadline <= now]
                cuts = [self._guards.pop(ticket)[1] for ticket in due]
                if not cuts:
                    idle = not self._guards
                    self._wakes = min(
                        (deadline for deadline, _ in self._guards.values()), default=now + _IDLE
                    )
                    self._changed.wait(self._wakes - now)
                    if idle and not self._guards:
                        self._running = False
                        return
            for cut in cuts:
                with suppress(Exception):  # it was to break something; the other guards go on
                    cut()
