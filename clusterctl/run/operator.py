"""What the operator wants: by signals to this process, or by `clusterctl stop` from another terminal."""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Callable

BY_PROGRAM = 0
"""No signal: the program that holds the run asks, through its Python object."""
_NAMES: dict[int, str] = {
    BY_PROGRAM: "its program",
    signal.SIGINT: "Ctrl-C",
    signal.SIGTERM: "SIGTERM",
    signal.SIGHUP: "SIGHUP: its terminal was closed",
}


class Operator:
    """Wishes that have not been heard yet. Signal handlers may call `interrupt`, `hand_on` and `leave`."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._interrupts: deque[str] = deque()
        self._signals: deque[int] = deque()
        self._told: bool | None = None
        self.leaves = False
        """Whether this process goes, and the run is to go on without it."""

    def interrupt(self, number: int) -> None:
        """End the run: at first with time to save, the second time now."""
        self._interrupts.append(_NAMES.get(number, f"signal {number}"))
        self._wake()

    def hand_on(self, number: int) -> None:
        """Send this signal to every rank."""
        self._signals.append(number)
        self._wake()

    def leave(self) -> None:
        """This process ends; the hosts go on for a lease."""
        self.leaves = True
        self._wake()

    @property
    def wants_end(self) -> bool:
        """Whether a start is to be broken off: a run that has not begun cannot be left either."""
        return bool(self._interrupts) or self.leaves

    def interrupts(self) -> list[str]:
        """New ones, each by what it came from."""
        return [self._interrupts.popleft() for _ in range(len(self._interrupts))]

    def signals(self) -> list[int]:
        """New ones to be handed on."""
        return [self._signals.popleft() for _ in range(len(self._signals))]

    def stop_asked(self, asked: bool | None) -> bool | None:
        """``asked``, which is what `clusterctl stop` wants (True means now), if that is new; else None."""
        news = None if asked == self._told else asked
        self._told = asked
        return news
