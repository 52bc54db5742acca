"""How a log lies on this machine: its bytes, and once it was longer than its limit one line in place of those
that were cut out. That line is all there is to know of a cut."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

_ALIGNED = 1 << 16
_BLOCK = 1 << 20
_LINE = re.compile(rb"\n\[clusterctl: bytes (\d{1,19}) to (\d{1,19}) of this log were cut out[^\n]{0,80}\]\n")
_LONGEST_LINE = 200


def head_of(limit: int) -> int:
    """Bytes of the beginning of a log that are kept when it is cut to ``limit``: a quarter."""
    return limit // 4 // _ALIGNED * _ALIGNED


class Cut(msgspec.Struct, frozen=True):
    """Bytes ``head`` to ``resume`` of a log are not in its file."""

    head: int = 0
    resume: int = 0

    @property
    def line(self) -> bytes:
        """What stands in their place; nothing where nothing was cut out."""
        if not self.resume:
            return b""
        size = f"{(self.resume - self.head) / 1e6:,.1f} MB, see --log-limit"
        return (
            f"\n[clusterctl: bytes {self.head} to {self.resume} of this log were cut out: {size}]\n".encode()
        )

    def place(self, offset: int) -> int:
        """Where in the file byte ``offset`` of the log lies, or would lie."""
        return offset if offset < self.head or not self.resume else offset + self._shift

    def size(self, of_file: int) -> int:
        """How long the log is whose file is so long."""
        return of_file - self._shift if self.resume else of_file

    @property
    def _shift(self) -> int:
        return self.head + len(self.line) - self.resume


WHOLE = Cut()


def cut_of(path: Path, head: int) -> Cut:
    """What was cut out of the log, which keeps ``head`` bytes of its beginning. Raises OSError."""
    with path.open("rb") as stream:
        return cut_in(stream, head)


def cut_in(stream: BinaryIO, head: int) -> Cut:
    """The same of an open file, whose position changes. Raises OSError."""
    stream.seek(head)
    found = _LINE.match(stream.read(_LONGEST_LINE)) if head else None
    cut = Cut(head, int(found[2])) if found is not None else WHOLE
    return cut if found is not None and found[0] == cut.line else WHOLE


def place_now(place: int, before: Cut, cut: Cut) -> int:
    """Where in a file that was cut anew what follows is that lay at ``place`` before."""
    if cut == before or place <= cut.head:
        return place
    offset = before.size(place)
    return cut.place(offset) if offset >= cut.resume else cut.head


def cut_out(path: Path, before: Cut, cut: Cut, on_block: Callable[[], None]) -> None:
    """Take out what ``cut`` says; readers see the file with it or without. Raises OSError."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        with path.open("rb") as source, os.fdopen(_create(partial), "wb") as target:
            _copy(source, target, cut.head, on_block)
            target.write(cut.line)
            source.seek(before.place(cut.resume))
            _copy(source, target, None, on_block)
        partial.replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            partial.unlink()


def blocks(stream: BinaryIO, cut: Cut) -> Iterator[bytes]:
    """The bytes of a log, without the line."""
    left = cut.head
    while cut.resume and left and (block := stream.read(min(_BLOCK, left))):
        left -= len(block)
        yield block
    stream.seek(len(cut.line), os.SEEK_CUR)
    yield from iter(lambda: stream.read(_BLOCK), b"")


def fingerprint(path: Path, cut: Cut, on_block: Callable[[], None]) -> tuple[int, str]:
    """How long the log is, and the SHA-256 of what is here of it. Raises OSError."""
    found, size = hashlib.sha256(), 0
    with path.open("rb") as stream:
        for block in blocks(stream, cut):
            found.update(block)
            size += len(block)
            on_block()
    return size + cut.resume - cut.head, found.hexdigest()


def _create(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)


def _copy(source: BinaryIO, target: BinaryIO, count: int | None, on_block: Callable[[], None]) -> None:
    while count is None or count > 0:
        block = source.read(_BLOCK if count is None else min(_BLOCK, count))
        if not block:
            return
        target.write(block)
        on_block()
        if count is not None:
            count -= len(block)
