"""What pages over HTTP show of the runs of this machine, and how they are looked at again and again."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from clusterctl.errors import UsageError
from clusterctl.report.html.live import Shown, shown_list, shown_run
from clusterctl.report.html.record import RunRecord
from clusterctl.session.record import RecordReader
from clusterctl.session.runs import RunList
from clusterctl.store.runs import RunDirectory, all_runs

Look = Callable[[], Shown]
"""A page as it is now: the very value of the look before where nothing is new. Raises ClusterctlError where
it cannot be made."""
_LARGEST = 64 << 20
"""Bytes of metrics that are kept in memory for a page, and of samples."""


def the_list() -> Look:
    """Of the list of runs."""
    runs = RunList()
    before: tuple[object, Shown] | None = None

    def look() -> Shown:
        nonlocal before
        found = runs.look()
        if before is None or before[0] != found:
            before = found, shown_list(*found)
        return before[1]

    return look


class NoSuchRunError(UsageError):
    """There is no run of that name."""


def a_run(name: str) -> Look:
    """Of the run whose whole id this is. A look raises NoSuchRunError where there is none."""
    found: Look | None = None

    def look() -> Shown:
        nonlocal found
        directory = next((each for each in all_runs() if each.run == name), None)
        if directory is None:
            raise NoSuchRunError(f"there is no run {name}", hint="It may have been removed.")
        found = found or _look_at(directory)
        return found()

    return look


def _look_at(directory: RunDirectory) -> Look:
    reader = RecordReader(directory, largest=_LARGEST)
    before: tuple[RunRecord, Shown] | None = None

    def look() -> Shown:
        """It is over when a look after the outcome has found nothing new: what came last is on it."""
        nonlocal before
        record = reader.look()
        if before is None or before[0] is not record:
            before = record, shown_run(record)
        elif record.outcome is not None and not before[1].over:
            before = record, msgspec.structs.replace(before[1], over=True)
        return before[1]

    return look
