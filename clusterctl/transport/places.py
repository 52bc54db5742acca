"""A number of places for work that must not be done by everybody at once."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator


class Places:
    """``count`` of them, for threads."""

    def __init__(self, count: int) -> None:
        self._free = threading.BoundedSemaphore(count)

    @contextlib.contextmanager
    def one(self, deadline: float) -> Iterator[bool]:
        """True inside the block when a place was free before ``deadline`` (time.monotonic)."""
        granted = self._free.acquire(timeout=max(0.0, deadline - time.monotonic()))
        try:
            yield granted
        finally:
            if granted:
                self._free.release()
