"""What steps tell of the ranks: how long each took, who was slow, since when the loss was no number. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from itertools import zip_longest

import msgspec
from markupsafe import Markup

from clusterctl.report.html import charts
from clusterctl.report.html.axis import Axis, written
from clusterctl.report.html.charts import Range
from clusterctl.report.html.record import RunRecord
from clusterctl.store.step import Step, as_one

_MOST_RANKS = 32
"""Of more than that the slowest ones are shown, and the others in one row."""
_SLOWEST = 16


def slowest(steps: Sequence[Step]) -> str:
    """Whom most steps waited for, where that is one rank clearly; empty where nobody is."""
    found = _named(steps)
    if found is None:
        return ""
    return (
        f"rank {found.rank} on {found.host} was the slowest in {found.share:.0%} of the steps; "
        f"the slowest rank took {found.spread:.0%} longer than the fastest (median)"
    )


def broken(steps: Sequence[Step]) -> str:
    """From when on the loss was no number; empty where it always was one."""
    told = [step for step in as_one(steps) if step.loss is not None]
    bad = [step.step for step in told if step.loss is not None and not math.isfinite(step.loss)]
    if not bad:
        return ""
    if bad == [step.step for step in told][-len(bad) :]:
        return f"the loss was NaN or infinite from step {bad[0]} to the end, step {bad[-1]}"
    return f"the loss was NaN or infinite in {len(bad)} of {len(told)} steps, at step {bad[0]} first"


def step_times(record: RunRecord) -> Markup | None:
    """How long steps take each rank: the middle half, and the middle. Of very many, the slowest."""
    named = _named(record.steps)
    hosts = {rank: f", {node.host}" for node in record.plan.nodes for rank in node.ranks}
    rows = []
    for rank, column in enumerate(zip_longest(*(step.step_s_ranks for step in record.steps))):
        told = [seconds for seconds in column if seconds is not None]
        if len(told) < 2:
            continue
        low, middle, high = statistics.quantiles(told, n=4)
        loud = named is not None and rank == named.rank
        note = f"{written(middle, 's')}{', the slowest' if loud else ''}"
        rows.append(
            Range(
                f"rank {rank}{hosts.get(rank, '')}",
                middle,
                low,
                high,
                note,
                colour=4 if loud else 0,
                loud=loud,
            )
        )
    if not rows:
        return None
    if len(rows) > _MOST_RANKS:
        rows = _slow_ones(rows)
    axis = Axis("time of a step: dot the median, line the middle half", "s")
    return charts.ranges(rows, axis, title="how long a step takes each rank")


def _slow_ones(rows: Sequence[Range]) -> list[Range]:
    ordered = sorted(rows, key=lambda row: -(row.middle or 0.0))
    middles = [row.middle or 0.0 for row in ordered[_SLOWEST:]]
    middle = statistics.median(middles)
    others = f"{len(middles)} other ranks"
    return [
        *ordered[:_SLOWEST],
        Range(others, middle, middles[-1], middles[0], written(middle, "s"), colour=7),
    ]


class _Slowest(msgspec.Struct, frozen=True):
    host: str | None
    rank: int
    share: float
    spread: float


def _named(steps: Sequence[Step]) -> _Slowest | None:
    named = [(step.slow_host, step.slow_rank) for step in steps if step.slow_rank is not None]
    if len(named) < 10:
        return None
    (host, rank), count = max(((each, named.count(each)) for each in set(named)), key=lambda each: each[1])
    spreads = [step.step_s_max / step.step_s_min - 1 for step in steps if step.step_s_max and step.step_s_min]
    spread = statistics.median(spreads) if spreads else 0.0
    if count / len(named) < 0.6 or spread < 0.05:
        return None
    return _Slowest(host, rank, count / len(named), spread)
