"""What the logs of one attempt tell while they arrive: how far the training is, and what the engine says."""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec

from clusterctl.plan.model import LaunchPlan
from clusterctl.run.clock import now
from clusterctl.run.display import Display

_STEP = re.compile(rb"\b(?:step|global[_ ]step|iter|iteration)\b[\s:=#]+(\d{1,12})\b", re.IGNORECASE)
_LONGEST_LINE = 4096
_TAIL = 16 << 10
_LOOKED_AT = 4 << 10


class Progress(msgspec.Struct, frozen=True):
    """The first step that logs tell of, and the last; when each was told, by `clock.now`."""

    first_step: int | None = None
    first_at: float | None = None
    last_step: int | None = None
    last_at: float | None = None

    def after(self, more: Progress) -> Progress:
        """With what came ``more``. Steps only grow: what is told once more is no news."""
        found = self
        if found.first_step is None:
            found = Progress(more.first_step, more.first_at, found.last_step, found.last_at)
        if more.last_step is not None and (found.last_step is None or more.last_step > found.last_step):
            found = Progress(found.first_step, found.first_at, more.last_step, more.last_at)
        return found


def progress_in(lines: bytes, at: float) -> Progress:
    """What these lines tell, which were printed about then."""
    if len(lines) > 2 * _LOOKED_AT:  # a flood: steps only grow, so its two ends tell them all
        lines = lines[:_LOOKED_AT] + b"\n" + lines[-_LOOKED_AT:]
    found = [int(number) for number in _STEP.findall(lines)]
    return Progress(found[0], at, max(found), at) if found else Progress()


class Observed(Display):
    """Stands before another display, and looks at what passes."""

    def __init__(
        self,
        plan: LaunchPlan,
        display: Display,
        *,
        progress: Progress | None = None,
        on_first: Callable[[Progress], None] = lambda _: None,
    ) -> None:
        """``progress`` is what was told before; ``on_first`` hears of the first step."""
        self.progress = progress or Progress()
        self.engine_tail = b""
        """The end of what the engine of the first host has printed."""
        self._on_first = on_first
        self._first_host = plan.nodes[0].host
        self._display = display
        self._rest: dict[tuple[str, str], bytes] = {}

    def say(self, text: str) -> None:
        self._display.say(text)

    def awaiting(self, text: str) -> None:
        self._display.awaiting(text)

    def ending(self, text: str) -> None:
        self._display.ending(text)

    def up(self) -> None:
        self._display.up()

    def output(self, host: str, name: str, data: bytes) -> None:
        if name.startswith("rank-"):
            self._look_for_steps((host, name), data)
        elif host == self._first_host:
            self.engine_tail = (self.engine_tail + data)[-_TAIL:]
        self._display.output(host, name, data)

    def _look_for_steps(self, log: tuple[str, str], data: bytes) -> None:
        """Progress bars end their states with a carriage return. Of a flood its ends are looked at: the first
        step may be in its beginning, the last one in its end."""
        if len(data) > 2 * _LOOKED_AT:
            first = data[: data.rfind(b"\n", 0, _LOOKED_AT) + 1] if self.progress.first_step is None else b""
            data = first + data[-_LOOKED_AT:]
        whole, newline, rest = (self._rest.get(log, b"") + data).replace(b"\r", b"\n").rpartition(b"\n")
        self._rest[log] = rest[-_LONGEST_LINE:]
        if not newline:
            return
        before = self.progress
        self.progress = before.after(progress_in(whole, now()))
        if before.first_step is None and self.progress.first_step is not None:
            self._on_first(self.progress)
