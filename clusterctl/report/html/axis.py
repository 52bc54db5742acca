"""Scales of charts: where ticks are, and how their numbers are written."""

from __future__ import annotations

import math
from typing import Literal

import msgspec

Unit = Literal["", "B", "s", "tokens/s"]
_SI = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_SAME = 1e-4
"""Values that are as close to one another, as parts of themselves, are one: ticks would all read alike."""
_SMALL = ((1.0, ""), (1e-3, "m"), (1e-6, "µ"))


class Axis(msgspec.Struct, frozen=True):
    """What is drawn along it, in words, and its unit."""

    label: str
    unit: Unit = ""


class Scale(msgspec.Struct, frozen=True):
    """Values from ``low`` to ``high`` on a line of pixels that begins at ``start`` and is ``length`` long,
    which is below zero where it goes up."""

    low: float
    high: float
    start: float
    length: float
    ticks: tuple[float, ...]

    def at(self, value: float) -> float:
        return self.start + self.length * (value - self.low) / (self.high - self.low)


def scale(low: float, high: float, start: float, length: float, *, about: int = 5) -> Scale:
    """With some ``about`` ticks at round numbers. The ends are ticks, too, where that costs little room."""
    if not high - low > _SAME * max(abs(low), abs(high)):
        low, high = (min(0.0, 1.25 * low), max(0.0, 1.25 * high)) if low or high else (0.0, 1.0)
    step = _round_step((high - low) / about)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(number * step for number in range(first, last + 1))
    return Scale(ticks[0], ticks[-1], start, length, ticks)


def _round_step(step: float) -> float:
    power: float = 10.0 ** math.floor(math.log10(step))
    return next(power * each for each in (1, 2, 2.5, 5, 10) if power * each >= step * 0.999)


def written(value: float, unit: Unit = "") -> str:
    """``1.5 MB``, ``250 ms``, ``12.3 k tokens/s``: three digits."""
    if value == 0:
        return f"0 {unit}".rstrip()
    if unit == "s" and abs(value) >= 60:
        return f"{value:.0f} s" if abs(value) < 600 else f"{value / 60:.0f} min"
    table = _SMALL if unit == "s" else (*_SI, (1.0, ""))
    if not unit and 0.01 <= abs(value) < 9999.5:
        return f"{value:.4g}"
    size, prefix = next((each for each in table if abs(value) >= each[0] * 0.9995), table[-1])
    digits = f"{value / size:.3g}" if abs(value / size) < 999.5 else f"{value / size:.0f}"
    glue = " " if len(unit) > 1 and prefix else ""
    return f"{digits} {prefix}{glue}{unit}".rstrip()
