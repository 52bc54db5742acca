"""The steps of a run on this machine, read at once or as they come."""

from __future__ import annotations

import os
from pathlib import Path

from clusterctl.store.step import Step, decode

METRICS = "metrics.jsonl"
_NEWEST = 256 * 1024


class MetricsTail:
    """Reads ``metrics.jsonl`` in the directory of a run as it grows."""

    def __init__(self, run: Path) -> None:
        self._path = run / METRICS
        self._place = 0
        self._file: tuple[int, int] | None = None

    def news(self) -> list[Step]:
        """Steps that are new or known better, in the order of their lines: a line stands in place of an
        earlier one of the same attempt and step. All from the first on where a controller that took over has
        written the file anew. Raises OSError."""
        try:
            with self._path.open("rb") as stream:
                found = os.fstat(stream.fileno())
                if (found.st_dev, found.st_ino) != self._file or found.st_size < self._place:
                    self._file, self._place = (found.st_dev, found.st_ino), 0
                stream.seek(self._place)
                data = stream.read()
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._place += len(whole)
        return [step for step in map(decode, whole.splitlines()) if step is not None]


def read_steps(run: Path) -> list[Step]:
    """All steps that a run has told of, attempt by attempt, in their order; none where it tells of none.
    Raises OSError."""
    found = {(step.attempt, step.step): step for step in MetricsTail(run).news()}
    return [found[key] for key in sorted(found)]


def newest_steps(run: Path) -> list[Step]:
    """Those in the last lines, in their order: what a look at a run needs. None where they cannot be read."""
    try:
        with (run / METRICS).open("rb") as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - _NEWEST))
            lines = stream.read().splitlines()
    except OSError:
        return []
    found = {(step.attempt, step.step): step for step in map(decode, lines) if step is not None}
    return [found[key] for key in sorted(found)]
