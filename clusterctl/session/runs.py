"""The runs of this machine, as lists show them."""

from __future__ import annotations

from pathlib import Path

from clusterctl.errors import ClusterctlError
from clusterctl.report.pace import pace
from clusterctl.report.run_view import RunRow, RunView, view
from clusterctl.store.metrics import METRICS, newest_steps
from clusterctl.store.runs import RunDirectory, all_runs

LISTED = 200
"""Of so many runs, the newest, the list tells."""


def view_of(directory: RunDirectory) -> RunView:
    """Raises ClusterctlError where its files cannot be read."""
    return view(
        directory.plan(),
        directory.outcome(),
        started=directory.started(),
        supervised=directory.supervised(),
        alone_since=directory.alone_since(),
    )


class RunList:
    """Runs as rows. One that has not changed since the look before is not read again."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[object, RunRow]] = {}

    def look(self) -> tuple[list[RunRow], int]:
        """The newest first, and how many older ones there are. A run that cannot be read is a row with its
        reason. Raises ClusterctlError where there is no list at all."""
        runs = all_runs()
        found = {}
        for directory in reversed(runs[-LISTED:]):
            try:
                found[directory.run] = self._row(directory)
            except FileNotFoundError:  # removed meanwhile
                continue
        self._known = found
        return [row for _, row in found.values()], max(0, len(runs) - LISTED)

    def _row(self, directory: RunDirectory) -> tuple[object, RunRow]:
        state: object = None
        try:
            state = _state(directory)
            known = self._known.get(directory.run)
            return known if known is not None and known[0] == state else (state, _row(directory))
        except FileNotFoundError:
            raise
        except (ClusterctlError, OSError) as error:
            reason = error.message if isinstance(error, ClusterctlError) else str(error.strerror)
            return state, RunRow(name=directory.run, problem=reason)


def _row(directory: RunDirectory) -> RunRow:
    return RunRow(
        name=directory.run,
        view=view_of(directory),
        hosts=tuple(node.host for node in directory.plan().nodes),
        pace=pace(newest_steps(directory.path)),
    )


def _state(directory: RunDirectory) -> object:
    """Differs where the row would. Raises OSError."""
    marks, ended = [_mark(directory.path)], True
    for name in ("outcome.json", METRICS):
        try:
            marks.append(_mark(directory.path / name))
        except FileNotFoundError:
            ended = ended and name != "outcome.json"
    return marks, ended or directory.supervised()


def _mark(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_ino, found.st_mtime_ns, found.st_size
