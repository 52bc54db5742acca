"""The files that this command's own words go to: they grow while the directory they lie in is copied."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

_STREAMS = (1, 2)
Identity = tuple[int, int]
"""Device and inode."""


def redirected() -> frozenset[Identity]:
    """By `> FILE`, or through a pipe to something like `tee FILE` in the same session."""
    found, pipes = set(), set()
    for number in _STREAMS:
        with contextlib.suppress(OSError):
            status = os.fstat(number)
            if stat.S_ISREG(status.st_mode):
                found.add(_identity(status))
            elif stat.S_ISFIFO(status.st_mode):
                pipes.add(_identity(status))
    for process in _others_of_session() if pipes else ():
        opened = list(_opened(process))
        if any(read and _identity(status) in pipes for status, read, _ in opened):
            found |= {
                _identity(status) for status, _, written in opened if written and stat.S_ISREG(status.st_mode)
            }
    return frozenset(found)


def _identity(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino


def _others_of_session() -> Iterator[str]:
    """None where the system has no /proc."""
    with contextlib.suppress(OSError):
        own = os.getsid(0)
        for pid in [int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit()]:
            with contextlib.suppress(OSError):
                if pid != os.getpid() and os.getsid(pid) == own:
                    yield f"/proc/{pid}/fd"


def _opened(folder: str) -> Iterator[tuple[os.stat_result, bool, bool]]:
    """What a process has open, and whether for reading and for writing: its links bear that as their mode."""
    with contextlib.suppress(OSError), os.scandir(folder) as links:
        for link in links:
            with contextlib.suppress(OSError):
                mode = link.stat(follow_symlinks=False).st_mode
                yield link.stat(), bool(mode & stat.S_IRUSR), bool(mode & stat.S_IWUSR)
