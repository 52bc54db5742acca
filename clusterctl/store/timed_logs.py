"""Logs read in the order in which their lines came, as far as that is known. Memory is bounded, however long
they are."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from clusterctl.store.log_files import WHOLE, cut_in, head_of, place_now
from clusterctl.store.log_tail import start_of_last
from clusterctl.store.log_times import HostTimes, Times

_BLOCK = 128 << 10
_AWAITED = 5.0
"""Seconds for which lines wait to be told when they came, which takes one or two."""


class Piece(NamedTuple):
    """Whole lines of one log that were there by ``at``, seconds of this machine's clock; None: nobody told.
    ``at_most`` orders it among others."""

    at_most: float
    at: float | None
    host: str
    name: str
    data: bytes


class TimedLog:
    """One of them."""

    def __init__(
        self,
        host: str,
        path: Path,
        limit: int,
        times: Times,
        *,
        lines: int | None = None,
        since: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``lines``: begin with the last so many of what is there at the first look. ``since``: with those
        that came then or later."""
        self.host = host
        self.path = path
        self._head = head_of(limit)
        self._times = times
        self._lines = lines
        self._since = since
        self._clock = clock
        self._begun = False
        self._place, self._cut = 0, WHOLE
        self._newest = 0.0
        self._awaited_since = 0.0

    def pieces(self, *, over: bool) -> Iterator[Piece]:
        """What has come and is known by when, or will not be known: nothing follows once it is ``over``.
        Raises OSError."""
        while block := self._block(over=over):
            offset = self._place if self._place < self._cut.head else self._cut.size(self._place)
            for at, data in _divided(block, offset, self._times):
                if at is None and not over and self._waits():
                    return
                self._awaited_since = 0.0 if at is not None else self._awaited_since
                self._place += len(data)
                self._newest = max(self._newest, at or 0.0)
                if at is None or self._since is None or at >= self._since:
                    yield Piece(self._newest, at, self.host, self.path.name, data)

    def _waits(self) -> bool:
        self._awaited_since = self._awaited_since or self._clock()
        return self._clock() - self._awaited_since < _AWAITED

    def _block(self, *, over: bool) -> bytes:
        """Whole lines, where they are not too long; at the end of all what is there."""
        if not self.path.is_file():
            return b""
        with self.path.open("rb") as stream:
            cut = cut_in(stream, self._head)
            self._place, self._cut = place_now(self._place, self._cut, cut), cut
            if not self._begun:
                self._begun = True
                self._place = self._start(stream)
            stream.seek(self._place)
            left = cut.head - self._place
            if cut.resume and left >= 0:  # what comes before the cut, then the line in its place
                return stream.read(min(_BLOCK, left) if left else len(cut.line))
            data = stream.read(_BLOCK)
        if over and len(data) < _BLOCK:
            return data
        return data[: data.rfind(b"\n") + 1] or (data if len(data) == _BLOCK else b"")

    def _start(self, stream: BinaryIO) -> int:
        place = start_of_last(self._lines, stream) if self._lines is not None else 0
        if self._since is not None:
            earlier = self._cut.place(self._times.before(self._since))
            size = stream.seek(0, 2)
            begin = max(0, min(earlier, size) - _BLOCK)
            stream.seek(begin)
            text = stream.read(min(earlier, size) - begin)
            place = max(place, begin + text.rfind(b"\n") + 1)
        return place


def _divided(block: bytes, offset: int, times: Times) -> Iterator[tuple[float | None, bytes]]:
    """The lines of a block that begins at ``offset`` of its log, by when they were there, end and all."""
    begin, size = 0, len(block)
    while begin < size:
        found = times.covering(offset + begin + 1)
        if found is None:
            yield None, block[begin:]
            return
        end = block.rfind(b"\n", begin, min(size, found[0] - offset)) + 1
        if end <= begin:  # the first line was not whole then
            end = block.find(b"\n", begin) + 1 or size
            found = times.covering(offset + end)
        yield found[1] if found else None, block[begin:end]
        begin = end


class TimedLogs:
    """Several, merged."""

    def __init__(self, logs: Sequence[TimedLog], hosts: Sequence[HostTimes]) -> None:
        self._logs = list(logs)
        self._hosts = list(hosts)

    def news(self, *, over: bool) -> Iterator[Piece]:
        """What has come since the last call, in the order of time. Raises OSError."""
        for host in self._hosts:
            host.look()
        yield from heapq.merge(
            *(log.pieces(over=over) for log in self._logs), key=lambda piece: piece.at_most
        )
