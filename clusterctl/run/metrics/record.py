"""What one rank tells of one step: a line of JSON that its script has written. Pure."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec

LONGEST = 64 * 1024
"""Bytes of a line; none that is longer is looked at."""
_MOST_OTHERS = 32
_LONGEST_NAME = 64
_LAST_STEP = 1 << 53
_LAST_TIME = 1e11
_MOST = 1e18
_NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf, "infinity": math.inf}
NEVER_NEGATIVE = frozenset(("step_s", "data_s", "tokens", "peak_bytes", "skipped"))
KNOWN = frozenset(("loss", "eval_loss", "lr", "grad_norm", "mfu")) | NEVER_NEGATIVE


class Told(msgspec.Struct, frozen=True):
    """``values`` by their names; ``time`` is what the rank's own clock said."""

    step: int
    values: dict[str, float]
    time: float | None = None


def parse(line: bytes) -> Told | None:
    """None for what tells of no step."""
    if len(line) > LONGEST or not line.lstrip().startswith(b"{"):
        return None
    try:
        told = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return from_values(told)


def from_values(told: dict[str, Any]) -> Told | None:
    """Of what is no number, nothing is taken; of names that are not among ours, so many and no more."""
    step = number(told.get("step"))
    if step is None or not step.is_integer() or not 0 <= step <= _LAST_STEP:
        return None
    values: dict[str, float] = {}
    others = 0
    for name, value in told.items():
        found = None if name in ("step", "t") else number(value)
        if found is None or (name in NEVER_NEGATIVE and not 0 <= found < _MOST):
            continue
        if name not in KNOWN:
            others += 1
            if others > _MOST_OTHERS or len(name) > _LONGEST_NAME or not name.isprintable():
                continue
        values[name] = found
    time = number(told.get("t"))
    return Told(int(step), values, time if time is not None and 0 < time < _LAST_TIME else None)


def number(value: Any) -> float | None:
    """The value as a number, if it is one or the word for one that JSON has not."""
    if isinstance(value, str):
        return _NOT_FINITE.get(value.lower())
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None
