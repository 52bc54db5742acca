"""A terminal, file or pipe with a thread of its own that writes to it: nobody else waits for a reader."""

from __future__ import annotations

import errno
import os
import select
import stat
import threading
import time
from collections import deque
from typing import Protocol

QUEUED = 8 << 20
"""Bytes that may wait for a reader; more are skipped."""

_BLOCK = 32 << 10
_BLOCK_OF_FILE = 1 << 20
_REFRESH = 1.0
_KEPT = 64 << 10
"""Of what still waits at the end, a reader who is slow gets this much: the newest."""
_SLOW = 3.0


class Source(Protocol):
    """Lines that have no end yet. Asked by the writing thread, about once a second."""

    def footer(self, columns: int) -> list[bytes]:
        """For a terminal: shown below everything, each at most ``columns`` wide, without an end of line."""

    def overdue(self) -> list[bytes]:
        """For anything else: lines worth printing although they have no end yet, each with its end."""


class Terminal:
    """Lines in the order they are put. `close` it once.

    With ``patient`` a `put` waits for room instead of skipping, and a slow reader gets everything.
    """

    def __init__(self, descriptor: int, *, patient: bool = False, limit: int = QUEUED) -> None:
        self.lost: OSError | None = None
        """Why nothing is written any more."""
        self._descriptor = descriptor
        self._patient = patient
        self._limit = limit
        self._rewrites = os.isatty(descriptor) and os.environ.get("TERM", "dumb") not in ("dumb", "")
        regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        self._block = _BLOCK_OF_FILE if regular else _BLOCK
        self._source: Source | None = None
        self._changed = threading.Condition()
        self._lines: deque[tuple[bytes, bool]] = deque()
        self._size = 0
        self._skipped = 0
        self._closing = False
        self._idle = True
        self._written = time.monotonic()
        self._footer = 0
        threading.Thread(target=self._write, name="terminal", daemon=True).start()

    def attach(self, source: Source) -> None:
        """Ask ``source`` from now on for lines without an end."""
        self._source = source

    def put(self, line: bytes, *, keep: bool = False) -> None:
        """Print ``line``, which brings its end of line. ``keep``: never skipped, within twice the limit."""
        with self._changed:
            while self._patient and self._size > self._limit and self.lost is None:
                self._changed.wait(_REFRESH)
            room = self._limit // 2 if self._skipped else self._limit
            if self._size + len(line) > (2 * self._limit if keep else room) and not self._patient:
                self._skipped += line.count(b"\n")
                return
            self._note_skipped()
            self._lines.append((line, keep))
            self._size += len(line)
            self._changed.notify_all()

    def close(self, last: bytes = b"", *, timeout: float = 5.0) -> bool:
        """Print ``last`` and wait until all is written; whether it was.

        Gives up after ``timeout`` seconds in which the reader took nothing. One that is merely slow gets the
        last lines rather than all of them.
        """
        with self._changed:
            self._note_skipped()
            if last:
                self._lines.append((last, True))
                self._size += len(last)
            self._closing = True
            self._changed.notify_all()
            self._written = begun = time.monotonic()
            while (self._lines or not self._idle) and self.lost is None:
                now = time.monotonic()
                if now - self._written > timeout:
                    return False
                if now - begun > _SLOW and not self._patient:
                    self._shorten()
                self._changed.wait(0.1)
            return self.lost is None

    def _note_skipped(self) -> None:
        if self._skipped:
            plural = "" if self._skipped == 1 else "s"
            notice = f"... {self._skipped:,} line{plural} skipped here, all in logs/\n".encode()
            self._lines.append((notice, True))
            self._size += len(notice)
            self._skipped = 0

    def _shorten(self) -> None:
        """Drop the oldest lines that may be dropped until little is left."""
        kept: deque[tuple[bytes, bool]] = deque()
        while self._lines and self._size > _KEPT:
            line, keep = self._lines.popleft()
            if keep:
                kept.append((line, keep))
                if sum(len(each) for each, _ in kept) > _KEPT:
                    break
            else:
                self._size -= len(line)
                self._skipped += line.count(b"\n")
        if self._skipped:
            notice = f"... {self._skipped:,} lines skipped here, all in logs/\n".encode()
            kept.append((notice, True))
            self._size += len(notice)
            self._skipped = 0
        self._lines.extendleft(reversed(kept))

    # The writing thread

    def _write(self) -> None:
        refreshed = time.monotonic()
        while True:
            with self._changed:
                if not self._lines:
                    self._idle = True
                    if self._closing:
                        break
                    self._changed.notify_all()
                    self._changed.wait(max(0.0, refreshed + _REFRESH - time.monotonic()))
                self._idle = False
                block = bytearray()
                while self._lines and len(block) < self._block:
                    line, _ = self._lines.popleft()
                    block += line
                    self._size -= len(line)
                self._changed.notify_all()
            now = time.monotonic()
            due = now - refreshed >= _REFRESH
            if due:
                refreshed = now
            if not self._out(bytes(block), refresh=due):
                break
        self._out(b"", refresh=False)
        with self._changed:
            self._lines.clear()
            self._size = 0
            self._idle = True
            self._changed.notify_all()

    def _out(self, block: bytes, *, refresh: bool) -> bool:
        """Write ``block`` above the footer. False when nothing can be written any more."""
        source = None if self._closing else self._source
        if self._rewrites:
            erase = b""
            if self._footer:
                erase = b"\r" + (b"\x1b[%dA" % (self._footer - 1) if self._footer > 1 else b"") + b"\x1b[J"
            if block or refresh or self._closing:
                footer = source.footer(self._columns()) if source is not None else []
                block = erase + block + b"\n".join(footer)
                self._footer = len(footer)
        elif refresh and source is not None:
            block += b"".join(source.overdue())
        try:
            for start in range(0, len(block), self._block):
                self._all_of(block[start : start + self._block])
                self._written = time.monotonic()
        except OSError as error:
            self.lost = error
            return False
        return True

    def _all_of(self, data: bytes) -> None:
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:  # somebody who shares the descriptor has made it so
                select.select([], [self._descriptor], [])

    def _columns(self) -> int:
        try:
            return os.get_terminal_size(self._descriptor).columns or 80
        except OSError:
            return 80


def gone(error: OSError | None) -> bool:
    """Whether only the reader has gone (`| head`, a closed window), which is nothing to complain about."""
    return error is not None and error.errno in (errno.EPIPE, errno.EIO)
