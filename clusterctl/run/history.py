"""What a controller that takes over does not know yet."""

from __future__ import annotations

from collections.abc import Mapping


class History:
    """What a controller that takes over must hear before it acts: what ended before anybody asked for a stop
    must not count as stopped. Empty for a run of our own."""

    def __init__(
        self,
        recorded: Mapping[int, int] | None = None,
        started_on: set[str] | None = None,
        waiting: set[int] | None = None,
        deadline: float = 0.0,
    ) -> None:
        self.recorded = recorded or {}
        """How far each node's events are here already."""
        self.waiting = waiting or set()
        self.deadline = deadline
        self._started_on = started_on

    def never_started(self, host: str) -> bool:
        """Whether the controller before us never got as far as this host."""
        return self._started_on is not None and host not in self._started_on
