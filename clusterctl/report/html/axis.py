"""Scales of charts: where ticks are, and how their numbers are written."""

from __future__ import annotations

import math
from typing import Literal

import msgspec

Unit = Literal["", "B", "s", "tokens/s", "%"]
"""Values in ``%`` are shares: 0.1 is written 10 %."""
_SI = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_SAME = 1e-4
"""Values that are as close to one another, as parts of themselves, are one: ticks would all read alike."""
_SMALL = ((1.0, ""), (1e-3, "m"), (1e-6, "µ"))
_MINUTES, _HOURS = 180.0, 7200.0
"""From when on a time is written in them."""
_CLOCK = (30, 60, 120, 300, 600, 1800, 3600, 7200, 14400, 21600, 43200, 86400)
"""Steps between ticks of time, from where tens of seconds are too short."""


class Axis(msgspec.Struct, frozen=True):
    """What is drawn along it, in words, and its unit. ``whole``: between its numbers there is nothing."""

    label: str
    unit: Unit = ""
    whole: bool = False


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


def scale(
    low: float, high: float, start: float, length: float, *, about: int = 5, axis: Axis | None = None
) -> Scale:
    """With some ``about`` ticks at round numbers. The ends are ticks, too, where that costs little room."""
    if not high - low > _SAME * max(abs(low), abs(high)):
        low, high = (min(0.0, 1.25 * low), max(0.0, 1.25 * high)) if low or high else (0.0, 1.0)
    step = _step((high - low) / about, axis)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(number * step for number in range(first, last + 1))
    return Scale(ticks[0], ticks[-1], start, length, ticks)


def _step(least: float, axis: Axis | None) -> float:
    if axis is not None and axis.unit == "s" and 20 < least <= _CLOCK[-1]:
        return next(float(each) for each in _CLOCK if each >= least * 0.999)
    if axis is not None and axis.whole:
        return max(1.0, _round_step(least, (1, 2, 5, 10)))
    return _round_step(least)


def _round_step(step: float, digits: tuple[float, ...] = (1, 2, 2.5, 5, 10)) -> float:
    power: float = 10.0 ** math.floor(math.log10(step))
    return next(power * each for each in digits if power * each >= step * 0.999)


def written(value: float, unit: Unit = "", digits: int = 3) -> str:
    """``1.5 MB``, ``250 ms``, ``12.3 k tokens/s``: three digits, unless asked for more."""
    if value == 0:
        return f"0 {unit}".rstrip()
    if unit == "%":
        return f"{100 * value:.{digits}g} %"
    if unit == "s" and abs(value) >= 60:
        if abs(value) < _MINUTES:
            return f"{value:.0f} s"
        whole, name = (60, "min") if abs(value) < _HOURS else (3600, "h")
        return f"{value / whole:.{digits}g} {name}"
    table = _SMALL if unit == "s" else (*_SI, (1.0, ""))
    if not unit and 0.01 <= abs(value) < 9999.5:
        return f"{value:.{digits + 1}g}"
    size, prefix = next((each for each in table if abs(value) >= each[0] * 0.9995), table[-1])
    number = f"{value / size:.{digits}g}" if abs(value / size) < 999.5 else f"{value / size:.0f}"
    glue = " " if len(unit) > 1 and prefix else ""
    return f"{number} {prefix}{glue}{unit}".rstrip()
