"""Says by when how much of each log was there, so that lines of several hosts can be put in order.

The logs stay what the ranks print. Beside them grows one file with a line for each look that found more of
one: the rank, how long its log was, and this host's time of day. A log that grows all the time has such a
line a second, after a pause ten at once.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import time

_LOG = re.compile(r"(?:rank-(\d{1,6})|agent)(?:\.attempt-\d{1,3})?\.log\Z", re.ASCII)
BURST = 10.0
WRITE_SECONDS = 1.0
_FULL = 1 << 16


class LogTimes:
    """The agent's part. A disk that refuses is asked again; what was seen meanwhile is told as of then."""

    def __init__(self, path, clock=time.monotonic, wall=time.time):
        self._path = path
        self._clock = clock
        self._wall = wall
        self._sizes: dict[str, int] = {}
        self._told: dict[str, int] = {}
        self._left: dict[str, tuple[float, float]] = {}  # lines it may have at once, and as of when
        self._text = b""
        self._written = -WRITE_SECONDS
        self._file: int | None = None

    def saw(self, name, size):
        """A log is so long now; other files are of no interest."""
        if _LOG.match(name):
            self._sizes[name] = size

    def write(self, *, last=False):
        """Tell what is new. Seconds until there is more to tell, though nothing grows."""
        now = self._clock()
        for name, size in self._sizes.items():
            if size > self._told.get(name, 0) and len(self._text) < _FULL:
                left, since = self._left.get(name, (BURST, now))
                left = min(BURST, left + now - since)
                if left >= 1 or last:
                    self._told[name] = size
                    self._text += self._line(name, size)
                    left -= 1
                self._left[name] = left, now
        if self._text and (last or now - self._written >= WRITE_SECONDS):
            self._written = now
            with contextlib.suppress(OSError):
                self._text = self._text[os.write(self._opened(), self._text) :]
        return WRITE_SECONDS if self._text or self._told != self._sizes else math.inf

    def _line(self, name, size):
        found = _LOG.match(name)
        rank = int(found[1]) if found and found[1] else None
        return json.dumps([rank, size, round(self._wall(), 2)], separators=(",", ":")).encode() + b"\n"

    def _opened(self):
        if self._file is None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
            self._file = os.open(self._path, flags, 0o600)
        return self._file
