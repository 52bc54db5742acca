"""A descriptor that polls readable after any thread has woken it."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress

_ONE = (1).to_bytes(8, sys.byteorder)


class WakeupPipe:
    """paramiko's own `Channel.fileno` can lose a wake-up between its two buffers; this one cannot.

    `set` and `clear` are the interface paramiko's buffers expect. They call `clear` when one buffer is empty,
    which says nothing about the other one, so only `drain` ends it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        if hasattr(os, "eventfd"):  # Linux: one descriptor instead of two
            self._reader = self._writer = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        else:
            self._reader, self._writer = os.pipe()
            os.set_blocking(self._reader, False)
        self._set = False
        self._closed = False

    def fileno(self) -> int:
        return self._reader

    def set(self) -> None:
        with self._lock:
            if not self._set and not self._closed:
                self._set = True
                os.write(self._writer, _ONE)

    def clear(self) -> None:
        return

    def drain(self) -> None:
        """End the wake-up. Look for what it announced after this, never before."""
        with self._lock:
            if self._set and not self._closed:
                self._set = False
                with suppress(BlockingIOError):
                    os.read(self._reader, 16)

    def close(self) -> None:
        with self._lock:
            if not self._closed:
                self._closed = True
                for descriptor in {self._reader, self._writer}:
                    os.close(descriptor)
