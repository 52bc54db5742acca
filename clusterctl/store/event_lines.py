"""``events.jsonl``: one event a line, of which the last may be half there."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from clusterctl.store import files


def append(path: Path, event: Mapping[str, Any]) -> None:
    """Raises OSError."""
    line = json.dumps(event).encode() + b"\n"
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
    with os.fdopen(os.open(path, flags, 0o600), "r+b", buffering=0) as stream:
        size = stream.seek(0, os.SEEK_END)
        if size and os.pread(stream.fileno(), 1, size - 1) != b"\n":
            line = b"\n" + line  # a disk that ran full has kept half a line
        if stream.write(line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Events so far, oldest first; a last line still being written is left out. None where they cannot be
    read: who reads them tells of a run, and what else is known of it is told."""
    try:
        content = files.read(path)
    except OSError:
        return
    for line in (content or b"").splitlines(keepends=True):
        # A controller that died while it wrote leaves half a line.
        with contextlib.suppress(ValueError, RecursionError):
            event = json.loads(line) if line.endswith(b"\n") else None
            if isinstance(event, dict) and "event" in event:
                yield event


def read_from(path: Path, offset: int) -> tuple[list[dict[str, Any]], int]:
    """Whole lines from ``offset`` on, and where the next one begins."""
    try:
        with path.open("rb") as stream:
            stream.seek(offset)
            data = stream.read()
    except FileNotFoundError:
        return [], offset
    whole = data[: data.rfind(b"\n") + 1]
    found = []
    for line in whole.splitlines():
        # A controller that died while it wrote leaves half a line.
        with contextlib.suppress(ValueError, RecursionError):
            found.append(json.loads(line))
    return found, offset + len(whole)
