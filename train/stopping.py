"""A polite end: SIGTERM and SIGINT are remembered, and the ranks stop together at the next step boundary."""

from __future__ import annotations

import os
import signal
import socket
import threading
from types import FrameType

# One Ctrl-C reaches a rank twice, from the terminal and from its launcher; with the next a person insists.
AT_ONCE = 3


class StopRequest:
    """Remembers the first SIGTERM or SIGINT that this process got; the third ends it at once."""

    def __init__(self) -> None:
        self.signal = 0

    def listen(self) -> None:
        signal.signal(signal.SIGTERM, self._remember)
        signal.signal(signal.SIGINT, self._remember)
        # A rank that waits for a lost one is in a call that no Python handler interrupts; a thread is not.
        numbers, self.wakeup = socket.socketpair()
        self.wakeup.setblocking(False)
        signal.set_wakeup_fd(self.wakeup.fileno())
        threading.Thread(target=_count, args=(numbers,), daemon=True).start()

    def _remember(self, number: int, _frame: FrameType | None) -> None:
        self.signal = self.signal or number


def _count(numbers: socket.socket) -> None:
    got = 0
    while number := numbers.recv(1):
        got += number[0] in (signal.SIGTERM, signal.SIGINT)
        if got == AT_ONCE:
            os._exit(128 + number[0])


def end_at_once_on_ctrl_c() -> None:
    """One keypress reaches every rank; without this each of them would print a traceback."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
