"""When what of a log was there, by what its host has told of that beside the logs."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from pathlib import Path

import msgspec

_Line = tuple[int | None, int, float]


class Times:
    """Of one log. ``sizes`` grow, and at the moment beside each the log was that long."""

    def __init__(self) -> None:
        self._sizes = array("Q")
        self._moments = array("d")

    def add(self, size: int, moment: float) -> None:
        """A clock that was set back moves nothing."""
        if size > (self._sizes[-1] if self._sizes else 0):
            self._sizes.append(size)
            self._moments.append(max(moment, self._moments[-1]) if self._moments else moment)

    def covering(self, offset: int) -> tuple[int, float] | None:
        """How long the log was, and when, at the first look that found the byte before ``offset``; None where
        none has been told of."""
        at = bisect_left(self._sizes, offset)
        return (self._sizes[at], self._moments[at]) if at < len(self._sizes) else None

    def before(self, moment: float) -> int:
        """So much was there earlier, for certain."""
        at = bisect_left(self._moments, moment)
        return self._sizes[at - 1] if at else 0


class HostTimes:
    """Those of one host in one attempt, read on as its file grows."""

    def __init__(self, path: Path, ahead: float = 0.0) -> None:
        """``ahead``: seconds by which the host's clock is ahead."""
        self.path = path
        self._ahead = ahead
        self._read = 0
        self._logs: dict[int | None, Times] = {}

    def of(self, rank: int | None) -> Times:
        """Of a rank's log; None is the agent's."""
        return self._logs.setdefault(rank, Times())

    def look(self) -> None:
        """Read what is new; lines that are none of it say nothing. Raises OSError."""
        if not self.path.is_file() or self.path.stat().st_size == self._read:
            return
        with self.path.open("rb") as stream:
            stream.seek(self._read)
            for line in stream:
                if not line.endswith(b"\n"):
                    break
                self._read += len(line)
                self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            rank, size, moment = msgspec.json.decode(line, type=_Line)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return
        if 0 < size < 1 << 63 and math.isfinite(moment):
            self.of(rank).add(size, moment - self._ahead)
