"""What the caller types or pipes in, on its way to rank 0."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

_PIECE = 32 * 1024
_FEED_TIMEOUT = 1.0


class InputPump:
    """Reads ``fd`` in a thread of its own, no faster than the host takes it."""

    def __init__(self, fd: int, feed: Callable[[bytes, float], bool]) -> None:
        """``feed(data, timeout)`` is false when the data was not taken in time; empty data is the end."""
        self._fd = fd
        self._feed = feed
        self._over = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._pump, name="stdin", daemon=True).start()

    def close(self) -> None:
        """The run is over: what has not been taken is dropped. A read that waits is left behind."""
        self._over.set()

    def _pump(self) -> None:
        data = b"-"
        while data:
            try:
                data = os.read(self._fd, _PIECE)
            except OSError:  # a terminal that is gone, or not ours to read from: the end of it
                data = b""
            while not self._feed(data, _FEED_TIMEOUT):
                if self._over.is_set():
                    return
