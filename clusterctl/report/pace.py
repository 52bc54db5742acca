"""How far a run has come, and how fast it goes: what its newest steps say, in a line or two. No I/O."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import msgspec
from rich.text import Text

from clusterctl.report.harmless import harmless
from clusterctl.store.step import Step

NEWEST = 50
"""Steps that a pace is taken from."""
_SLOWER = 1.1
_CONCLUSIVE = 5


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """By the newest steps of the newest attempt; None is what they do not tell."""

    step: int
    time: float | None
    loss: float | None
    steps_per_s: float | None
    tokens_per_s: float | None
    slow_rank: int | None = None
    """Who took clearly longer than the others in most of these steps,"""
    slow_host: str | None = None
    slow_s: float | None = None
    """for how many seconds a step,"""
    others_s: float | None = None
    """and the median of the others."""
    source: str = "metrics"


def pace(steps: Sequence[Step]) -> Pace | None:
    """``steps`` in their order; None where there are none."""
    if not steps:
        return None
    newest = [step for step in steps if step.attempt == steps[-1].attempt][-NEWEST:]
    last = newest[-1]
    losses = [step.loss for step in newest if step.loss is not None]
    found = Pace(
        step=last.step,
        time=last.time,
        loss=losses[-1] if losses else None,
        steps_per_s=_rate(newest),
        tokens_per_s=_mean([step.tokens_per_s for step in newest]),
        source=last.source,
    )
    return _with_slowest(found, newest)


def _rate(steps: Sequence[Step]) -> float | None:
    seconds = _mean([step.step_s_max for step in steps])
    if seconds:
        return 1 / seconds
    times = [(step.step, step.time) for step in steps if step.time is not None]
    (first, begin), (last, end) = (times[0], times[-1]) if times else ((0, 0.0), (0, 0.0))
    return (last - first) / (end - begin) if end > begin and last > first else None


def _with_slowest(found: Pace, steps: Sequence[Step]) -> Pace:
    """Who was slowest in most of the steps, if by enough to matter: once is chance."""
    told = [step for step in steps if step.slow_rank is not None]
    if len(told) < _CONCLUSIVE:
        return found
    rank = statistics.mode(step.slow_rank for step in told)
    its = [step for step in told if step.slow_rank == rank and step.step_s_max is not None]
    if 2 * len(its) <= len(told):
        return found
    slow = statistics.median(step.step_s_max or 0.0 for step in its)
    others = [
        seconds
        for step in its
        for seconds in step.step_s_ranks or (step.step_s,)
        if seconds is not None and seconds != step.step_s_max
    ]
    usual = statistics.median(others) if others else slow
    if slow < _SLOWER * usual:
        return found
    return msgspec.structs.replace(
        found, slow_rank=rank, slow_host=its[-1].slow_host, slow_s=slow, others_s=usual
    )


def no_number(found: Pace | None) -> str:
    """What a loss that is NaN or infinite means; empty where it is a number or nobody told one."""
    if found is None or found.loss is None or math.isfinite(found.loss):
        return ""
    return f"the loss is {found.loss}: clusterctl report shows since which step"


def _mean(values: Sequence[float | None]) -> float | None:
    told = [value for value in values if value is not None]
    return sum(told) / len(told) if told else None


def text(found: Pace, *, age: str = "") -> Text:
    """``age``: how long ago the step was, in words."""
    parts = [f"{found.step}"]
    if found.loss is not None:
        parts.append(f"loss {found.loss:.4g}")
    if found.steps_per_s is not None:
        parts.append(_speed(found.steps_per_s))
    if found.tokens_per_s is not None:
        parts.append(f"{_short(found.tokens_per_s)} tokens/s")
    if age:
        parts.append(f"{age} ago")
    line = Text.assemble(("step  ", "dim"), ", ".join(parts))
    said = no_number(found)
    if found.source != "metrics":
        line.append(f"  (read from its {found.source.partition(':')[0]})", "dim")
    if said:
        line.append(f"\n      {said}", "red")
    if found.slow_rank is not None and found.slow_s is not None and found.others_s is not None:
        where = f" on {harmless(found.slow_host)}" if found.slow_host else ""
        line.append("\n      ")
        line.append(f"slowest: rank {found.slow_rank}{where}", "yellow")
        line.append(f", {found.slow_s:.3g} s a step, the others {found.others_s:.3g} s")
    return line


def _speed(steps_per_s: float) -> str:
    return f"{steps_per_s:.3g} steps/s" if steps_per_s >= 1 else f"{1 / steps_per_s:.3g} s a step"


def _short(number: float) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"
