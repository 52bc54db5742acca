"""What a run has told so far, read from its directory; who supervises it does not matter."""

from __future__ import annotations

import abc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clusterctl.errors import UsageError
from clusterctl.plan.model import LaunchPlan
from clusterctl.store.outcome import Outcome
from clusterctl.store.runs import RunDirectory


class RecordedRun(abc.ABC):
    """A run by its directory on this machine."""

    def __init__(self, directory: RunDirectory) -> None:
        self.id = directory.run
        self.path = directory.path
        self._directory = directory

    @property
    @abc.abstractmethod
    def plan(self) -> LaunchPlan:
        """That of the newest attempt."""

    @property
    @abc.abstractmethod
    def outcome(self) -> Outcome | None:
        """How it ended; None while it goes on."""

    @abc.abstractmethod
    def _pause(self) -> bool:
        """Wait a moment for news; whether the run was over before."""

    def logs(self, rank: int) -> str:
        """What a rank has printed so far; complete once the run is over."""
        try:
            return self.log_path(rank).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""

    def log_path(self, rank: int) -> Path:
        """The log of a rank on this machine. Raises UsageError for a rank that the run does not have."""
        try:
            node = self.plan.node_of(rank)
        except KeyError:
            raise UsageError(
                f"run {self.id} has no rank {rank}", hint=f"its ranks: 0 to {self.plan.world_size - 1}"
            ) from None
        return self._directory.host_logs(node.host) / self.plan.log_of(rank)

    def events(self) -> Iterator[dict[str, Any]]:
        """The lines of ``events.jsonl`` from the first on, as they come; ends when the run is over."""
        offset = 0
        over = False
        while True:
            lines, offset = self._directory.events_from(offset)
            yield from lines
            if over:
                return
            over = self._pause()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self.events()
