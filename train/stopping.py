"""A polite end: SIGTERM and SIGINT are remembered, and the ranks stop together at the next step boundary."""

from __future__ import annotations

import signal
from types import FrameType


class StopRequest:
    """Remembers the first SIGTERM or SIGINT that this process got."""

    def __init__(self) -> None:
        self.signal = 0

    def listen(self) -> None:
        signal.signal(signal.SIGTERM, self._remember)
        signal.signal(signal.SIGINT, self._remember)

    def _remember(self, number: int, _frame: FrameType | None) -> None:
        self.signal = self.signal or number


def end_at_once_on_ctrl_c() -> None:
    """One keypress reaches every rank; without this each of them would print a traceback."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
