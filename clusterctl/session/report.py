"""The page of a run, from what its directory on this machine holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from clusterctl.checks.finding import Finding
from clusterctl.errors import ClusterctlError
from clusterctl.plan.model import LaunchPlan
from clusterctl.report.html.record import SOFTWARE, HostSoftware, RunRecord
from clusterctl.report.html.run import overlay_page, run_page
from clusterctl.session.why import why
from clusterctl.store import files
from clusterctl.store.metrics import METRICS, read_steps
from clusterctl.store.runs import RunDirectory
from clusterctl.store.sample import Sample
from clusterctl.store.samples import read_samples
from clusterctl.store.step import Step

PAGE = "report.html"
_LARGEST = 256 << 20
"""Bytes of metrics, and of the samples of one host, that are read."""
_BY_ITSELF = 24 << 20
"""And for the page that is written at the end of a run: it is to be there at once."""
_TAIL = 40
_T = TypeVar("_T")


def page_of(directories: Sequence[RunDirectory]) -> str:
    """Of one run; of several, laid over one another. Raises ClusterctlError where one cannot be read."""
    records = [record_of(directory) for directory in directories]
    return run_page(records[0]) if len(records) == 1 else overlay_page(records)


def write_page(directory: RunDirectory) -> Path | None:
    """Put its page into the directory of a run that has ended. None where there is too much to read for that
    to be quick. Raises ClusterctlError and OSError."""
    if _size(directory.path / METRICS) > _BY_ITSELF:
        return None
    directory.write_bytes(PAGE, run_page(record_of(directory, largest=_BY_ITSELF)).encode())
    return directory.path / PAGE


def record_of(directory: RunDirectory, *, largest: int = _LARGEST) -> RunRecord:
    """All that its page is made from. Raises ClusterctlError where its records cannot be read."""
    plan, outcome = directory.plan_of_all_attempts(), directory.outcome()
    found = why(directory, outcome=outcome)
    unread: list[str] = []
    try:
        return RunRecord(
            plan=plan,
            outcome=outcome,
            found=found,
            started=directory.started(),
            steps=_steps(directory, largest, unread),
            samples=_samples(directory, plan, largest, unread),
            events=tuple(directory.events()),
            findings=_kept(directory, "findings.json", Finding),
            hosts=_kept(directory, SOFTWARE, HostSoftware),
            tail=() if outcome is None or outcome.status == "succeeded" else found.quoted[-_TAIL:],
            unread=tuple(unread),
        )
    except OSError as error:
        raise ClusterctlError(f"{directory.path} cannot be read: {error.strerror}") from error


def _steps(directory: RunDirectory, largest: int, unread: list[str]) -> tuple[Step, ...]:
    fits = _fits(directory.path / METRICS, largest, unread)
    return tuple(read_steps(directory.path)) if fits else ()


def _samples(
    directory: RunDirectory, plan: LaunchPlan, largest: int, unread: list[str]
) -> dict[str, tuple[Sample, ...]]:
    found = {}
    share = max(1 << 20, largest // max(1, len(plan.nodes)))
    for node in plan.nodes:
        paths = directory.host_logs(node.host).glob("samples*.ndjson")
        fits = [_fits(path, share, unread) for path in paths]
        if all(fits):
            found[node.host] = tuple(read_samples(directory, node.host))
    return found


def _kept(directory: RunDirectory, name: str, kind: type[_T]) -> tuple[_T, ...]:
    """None of it where the file is not there, damaged or another version's: the page is made without."""
    try:
        content = files.read(directory.path / name)
        return () if content is None else msgspec.json.decode(content, type=tuple[kind, ...])  # type: ignore[valid-type]
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ()


def _fits(path: Path, largest: int, unread: list[str]) -> bool:
    size = _size(path)
    if size > largest:
        unread.append(f"{path.name} has {size / 1e6:.0f} MB and was not read")
    return size <= largest


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
