"""What the logs of one attempt tell while they arrive: how far the training is, and what the engine says."""

from __future__ import annotations

import re
import time

from clusterctl.plan.model import LaunchPlan
from clusterctl.run.display import Display

_STEP = re.compile(rb"\b(?:step|global[_ ]step|iter|iteration)\b[\s:=#]+(\d{1,12})\b", re.IGNORECASE)
_LONGEST_LINE = 4096
_TAIL = 16 << 10
_LOOKED_AT = 8 << 10


class Observed(Display):
    """Stands before another display, and looks at what passes."""

    def __init__(self, plan: LaunchPlan, display: Display) -> None:
        self.first_step: int | None = None
        self.last_step: int | None = None
        self.first_at: float | None = None
        """When the first step was told of, and the last; seconds of time.time()."""
        self.last_at: float | None = None
        self.engine_tail = b""
        """The end of what the engine of the first host has printed."""
        self._first_host = plan.nodes[0].host
        self._display = display
        self._rest: dict[tuple[str, str], bytes] = {}

    def say(self, text: str) -> None:
        self._display.say(text)

    def awaiting(self, text: str) -> None:
        self._display.awaiting(text)

    def up(self) -> None:
        self._display.up()

    def output(self, host: str, name: str, data: bytes) -> None:
        if name.startswith("rank-"):
            self._look_for_steps((host, name), data)
        elif host == self._first_host:
            self.engine_tail = (self.engine_tail + data)[-_TAIL:]
        self._display.output(host, name, data)

    def _look_for_steps(self, log: tuple[str, str], data: bytes) -> None:
        """Progress bars end their states with a carriage return."""
        whole, newline, rest = (self._rest.get(log, b"") + data).replace(b"\r", b"\n").rpartition(b"\n")
        self._rest[log] = rest[-_LONGEST_LINE:]
        if len(whole) > 2 * _LOOKED_AT:  # a flood: steps only grow, so its two ends tell them all
            whole = whole[:_LOOKED_AT] + b"\n" + whole[-_LOOKED_AT:]
        found = [int(number) for number in _STEP.findall(whole)] if newline else []
        if not found:
            return
        now = time.time()
        if self.first_step is None:
            self.first_step, self.first_at = found[0], now
        if self.last_step is None or max(found) > self.last_step:
            self.last_step, self.last_at = max(found), now
