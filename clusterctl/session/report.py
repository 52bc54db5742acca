"""The page of a run, from what its directory on this machine holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from clusterctl.report.html.run import overlay_page, run_page
from clusterctl.session.record import RecordReader, size_of
from clusterctl.store.metrics import METRICS
from clusterctl.store.runs import RunDirectory

PAGE = "report.html"
_BY_ITSELF = 24 << 20
"""Bytes of metrics up to which the page is written at the end of a run: it is to be there at once."""


def page_of(directories: Sequence[RunDirectory]) -> str:
    """Of one run; of several, laid over one another. Raises ClusterctlError where one cannot be read."""
    records = [RecordReader(directory).look() for directory in directories]
    return run_page(records[0]) if len(records) == 1 else overlay_page(records)


def write_page(directory: RunDirectory) -> Path | None:
    """Put its page into the directory of a run that has ended. None where there is too much to read for that
    to be quick. Raises ClusterctlError and OSError."""
    if size_of(directory.path / METRICS) > _BY_ITSELF:
        return None
    record = RecordReader(directory, largest=_BY_ITSELF).look()
    directory.write_bytes(PAGE, run_page(record).encode())
    return directory.path / PAGE
