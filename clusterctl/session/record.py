"""What the page of a run is made from, read from its directory: at once, or as it grows."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import msgspec

from clusterctl.advise.explain import Explanation
from clusterctl.checks.finding import Finding
from clusterctl.errors import ClusterctlError
from clusterctl.plan.model import LaunchPlan
from clusterctl.report.html.record import SOFTWARE, HostSoftware, RunRecord
from clusterctl.session.intent import recall
from clusterctl.session.retyped import retyped
from clusterctl.session.why import why
from clusterctl.store import files
from clusterctl.store.metrics import METRICS, MetricsTail
from clusterctl.store.outcome import Outcome
from clusterctl.store.runs import RunDirectory
from clusterctl.store.sample import Sample
from clusterctl.store.samples import SamplesTail
from clusterctl.store.step import Step

LARGEST = 256 << 20
"""Bytes of metrics, and of the samples of all hosts, that are read."""
_TAIL = 40
_T = TypeVar("_T")


class RecordReader:
    """Goes on where it stopped, and keeps what it has read."""

    def __init__(self, directory: RunDirectory, *, largest: int = LARGEST) -> None:
        self._directory = directory
        self._largest = largest
        self._plans: list[LaunchPlan] = []
        self._whole: LaunchPlan | None = None
        self._metrics = MetricsTail(directory.path)
        self._by_step: dict[tuple[int, int], Step] = {}
        self._steps: tuple[Step, ...] = ()
        self._tails: dict[tuple[int, str], SamplesTail] = {}
        self._samples: dict[str, tuple[Sample, ...]] = {}
        self._events: tuple[dict[str, Any], ...] = ()
        self._offset = 0
        self._told: object = None
        self._found: Explanation | None = None
        self._typed: tuple[str, ...] | None = None
        self._record: RunRecord | None = None

    def look(self) -> RunRecord:
        """What is known now: the very value of the look before where nothing is new. Raises ClusterctlError
        where the records of the run cannot be read."""
        try:
            record = self._read()
        except OSError as error:
            raise ClusterctlError(f"{self._directory.path} cannot be read: {error.strerror}") from error
        if self._record is None or record != self._record:
            self._record = record
        return self._record

    def _read(self) -> RunRecord:
        directory = self._directory
        unread: list[str] = []
        plan, outcome = self._read_plans(), directory.outcome()
        self._read_events()
        self._read_steps(unread)
        self._read_samples(plan, unread)
        found = self._explained(plan, outcome)
        return RunRecord(
            plan=plan,
            outcome=outcome,
            found=found,
            started=directory.started(),
            steps=self._steps,
            samples=dict(self._samples),
            events=self._events,
            findings=self._kept("findings.json", Finding),
            hosts=self._kept(SOFTWARE, HostSoftware),
            tail=() if outcome is None or outcome.status == "succeeded" else found.quoted[-_TAIL:],
            unread=tuple(unread),
            typed=self._how_typed(),
        )

    def _read_plans(self) -> LaunchPlan:
        """Those of attempts that are new: the samples of each lie in files of their own."""
        newest = self._directory.newest_attempt()
        if self._whole is None or newest > len(self._plans):
            self._plans += (
                self._directory.plan(number) for number in range(len(self._plans) + 1, newest + 1)
            )
            self._whole = self._directory.plan_of_all_attempts()
        return self._whole

    def _explained(self, plan: LaunchPlan, outcome: Outcome | None) -> Explanation:
        """Logs are looked at again only where what they are looked at for has changed."""
        directory = self._directory
        told = (outcome, len(self._events), directory.supervised(), directory.looks())
        if self._found is None or told != self._told:
            self._told, self._found = told, why(directory, outcome=outcome)
        return self._found

    def _read_events(self) -> None:
        lines, self._offset = self._directory.events_from(self._offset)
        news = tuple(line for line in lines if isinstance(line, dict) and "event" in line)
        if news:
            self._events += news

    def _read_steps(self, unread: list[str]) -> None:
        if not _fits(self._directory.path / METRICS, self._largest, unread):
            return
        news = {(step.attempt, step.step): step for step in self._metrics.news()}
        if news:
            self._by_step |= news
            self._steps = tuple(self._by_step[key] for key in sorted(self._by_step))

    def _read_samples(self, whole: LaunchPlan, unread: list[str]) -> None:
        share = max(1 << 20, self._largest // max(1, len(whole.nodes)))
        for plan in self._plans:
            for node in plan.nodes:
                if not _fits(self._directory.host_logs(node.host) / plan.samples, share, unread):
                    continue
                key = (plan.attempt, node.host)
                if key not in self._tails:
                    self._tails[key] = SamplesTail(self._directory, plan, node.host)
                if news := self._tails[key].news():
                    self._samples[node.host] = (*self._samples.get(node.host, ()), *news)

    def _how_typed(self) -> tuple[str, ...] | None:
        """Of the first attempt: later ones may be on other hosts."""
        if self._typed is None:
            try:
                found = recall(self._directory, {})
            except ClusterctlError:  # another version's: the page has the line that the plan gives
                return None
            self._typed = None if found is None else retyped(found.ready.intent)
        return self._typed

    def _kept(self, name: str, kind: type[_T]) -> tuple[_T, ...]:
        """None of it where the file is not there, damaged or another version's: the page is made without."""
        try:
            content = files.read(self._directory.path / name)
            return () if content is None else msgspec.json.decode(content, type=tuple[kind, ...])  # type: ignore[valid-type]
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return ()


def size_of(path: Path) -> int:
    """Bytes of a file; 0 where there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _fits(path: Path, largest: int, unread: list[str]) -> bool:
    size = size_of(path)
    if size > largest:
        unread.append(f"{path.name} has {size / 1e6:.0f} MB and was not read")
    return size <= largest
