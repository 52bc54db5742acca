"""stdout and stderr that never fail: a reader that has gone, a full disk or an encoding that lacks a sign
changes no exit code and shows no traceback."""

from __future__ import annotations

import codecs
import errno
import io
import os
import select
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_ASCII = str.maketrans("✓✗·–│─━×\ufffd", "+x.-|--x?") | {ord("≠"): "!=", ord("…"): "..."}
"""The signs of our own screens, for terminals that cannot show them."""


class Stream(io.RawIOBase):
    """A file descriptor to write to. After the first error, kept in ``lost``, everything goes nowhere."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.lost: OSError | None = None

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, data: ReadableBuffer) -> int:
        view = memoryview(data).cast("B")
        length, done = len(view), 0
        while done < length and self.lost is None:
            try:
                done += os.write(self._descriptor, view[done:])
            except BlockingIOError:  # somebody who shares the descriptor has made it so
                select.select([], [self._descriptor], [])
            except OSError as error:
                self.lost = error
        return length


def settle() -> None:
    """Put such streams in the place of Python's. Call once, before anything is printed."""
    register_signs()
    for descriptor in range(3):  # closed by the caller: the next file opened must not become stdout
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = _settled(sys.stdout, sys.__stdout__, 1)
    sys.stderr = _settled(sys.stderr, sys.__stderr__, 2)


def register_signs() -> None:
    """Make known how our signs are shown where the encoding lacks them: ``errors="clusterctl"``."""
    codecs.register_error("clusterctl", _shown_otherwise)


def _settled(stream: TextIO | None, original: TextIO | None, descriptor: int) -> TextIO:
    if stream is not None and (stream is not original or isinstance(stream.buffer, io.BytesIO)):
        return stream  # a test reads it
    raw = Stream(descriptor)
    encoding = stream.encoding if stream is not None else "utf-8"
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=encoding,
        errors="clusterctl",
        line_buffering=descriptor == 2 or raw.isatty(),
    )


def lost(stream: TextIO) -> OSError | None:
    """Why not all that was printed could be written; None also when only the reader has gone (`| head`)."""
    stream.flush()
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    error = raw.lost if isinstance(raw, Stream) else None
    return None if error is not None and error.errno in (errno.EPIPE, errno.EIO) else error


def same_place(one: int, other: int) -> bool:
    """Whether two descriptors lead to the same terminal, pipe or file."""
    first, second = os.fstat(one), os.fstat(other)
    return (first.st_dev, first.st_ino, first.st_rdev) == (second.st_dev, second.st_ino, second.st_rdev)


def _shown_otherwise(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return text.translate(_ASCII).encode("ascii", "backslashreplace").decode(), error.end
