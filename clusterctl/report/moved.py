"""Bytes on their way, as people read them: how many, of how many, how fast. Pure."""

from __future__ import annotations

from collections import deque

from clusterctl.report.pull import size

_WINDOW = 5.0
"""Seconds over which a rate is taken,"""
_SOON = 1.0
"""and the least of them."""


class Moved:
    """``12.3 MB of 80.0 MB, 4.1 MB/s``. Bytes that stand still are said to: ``nothing for 12 s``."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()
        self._grew = 0.0

    def text(self, count: int, now: float, *, total: int | None = None) -> str:
        """``count`` bytes have come by ``now``. A smaller one than before begins anew."""
        if self._seen and count < self._seen[-1][1]:
            self._seen.clear()
        if not self._seen or count > self._seen[-1][1]:
            self._grew = now
        self._seen.append((now, count))
        while len(self._seen) > 1 and self._seen[1][0] <= now - _WINDOW:
            self._seen.popleft()
        text = size(count) if total is None else f"{size(count)} of {size(total)}"
        if now - self._grew >= _WINDOW:
            return f"{text}, nothing for {now - self._grew:.0f} s"
        since, before = self._seen[0]
        if count > before and now - since >= _SOON:
            return f"{text}, {size(round((count - before) / (now - since)))}/s"
        return text
