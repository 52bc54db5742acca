"""One log of a run, read as it grows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from clusterctl.store.log_files import WHOLE, cut_in, head_of, place_now

_BLOCK = 1 << 20


class LogTail:
    """Meanwhile a log of more than ``limit`` bytes may lose its middle."""

    def __init__(self, path: Path, limit: int, *, lines: int | None = None, block: int = _BLOCK) -> None:
        """``lines``: begin with so many of what is there at the first look; None for all. ``block``: so many
        bytes at once."""
        self.path = path
        self._head = head_of(limit)
        self._lines = lines
        self._block = block
        self._place, self._cut = 0, WHOLE

    @property
    def behind(self) -> int:
        """Bytes that have come and were not read yet. Raises OSError."""
        return self.path.stat().st_size - self._place if self.path.is_file() else 0

    def news(self) -> Iterator[bytes]:
        """What has come since. A log that is not there yet is empty. Who takes not all of it is given
        the rest another time. Raises OSError."""
        lines, self._lines = self._lines, None
        if not self.path.is_file() or self.path.stat().st_size == self._place:
            return
        with self.path.open("rb") as stream:
            cut = cut_in(stream, self._head)
            if lines is not None:
                stream.seek(start_of_last(lines, stream))
            else:
                stream.seek(place_now(self._place, self._cut, cut))
            self._place, self._cut = stream.tell(), cut
            while data := stream.read(self._block):
                self._place = stream.tell()
                yield data


def start_of_last(lines: int, stream: BinaryIO) -> int:
    """Offset at which the last ``lines`` lines begin; one without an end counts as a line."""
    position = size = stream.seek(0, 2)
    wanted = lines
    while position > 0:
        step = min(_BLOCK, position)
        position -= step
        stream.seek(position)
        block = stream.read(step)
        cut = len(block)
        if position + step == size and block.endswith(b"\n"):
            cut -= 1  # the end of the last line begins no other
        if lines == 0:
            return size
        while (newline := block.rfind(b"\n", 0, cut)) >= 0:
            wanted -= 1
            if wanted == 0:
                return position + newline + 1
            cut = newline
    return 0
