"""What a controller that takes over does not know yet."""

from __future__ import annotations

from collections.abc import Mapping, Set

from clusterctl.store.runs import RunDirectory


class History:
    """What a controller that takes over must hear before it acts: what ended before anybody asked for a stop
    must not count as stopped. Empty for a run of our own."""

    def __init__(
        self,
        recorded: Mapping[int, int] | None = None,
        started_on: Set[str] | None = None,
        began: float = 0.0,
        looks: int = 0,
    ) -> None:
        self.recorded = recorded or {}
        """How far each node's events are here already, in bytes."""
        self.began = began
        """When the run was made, in seconds of the wall clock."""
        self.looks = looks
        """How many looks at a run that seemed to hang are kept here."""
        self.waiting: set[int] = set()
        """Nodes that have not told all yet,"""
        self.deadline = 0.0
        """and when they are waited for no longer."""
        self._started_on = started_on

    @classmethod
    def of(cls, directory: RunDirectory) -> History:
        """As the run directory tells it. Raises OSError."""
        started_on = {event["host"] for event in directory.attempt_events() if event["event"] == "started"}
        return cls(directory.recorded_events(), started_on, directory.started(), directory.looks())

    def await_nodes(self, nodes: Set[int], deadline: float) -> None:
        """Nothing is decided before these have told all that had happened, or ``deadline``."""
        self.waiting = set(nodes)
        self.deadline = deadline

    def never_started(self, host: str) -> bool:
        """Whether the controller before us never got as far as this host."""
        return self._started_on is not None and host not in self._started_on
