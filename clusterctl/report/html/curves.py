"""Curves of what scripts told of their steps, of one run or of several on top of one another."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
from markupsafe import Markup

from clusterctl.report.html import charts
from clusterctl.report.html.axis import Axis, Unit
from clusterctl.report.html.charts import Series
from clusterctl.report.html.record import RunRecord
from clusterctl.store.step import Step, as_one

_STEP = Axis("step", whole=True)


class Curve(msgspec.Struct, frozen=True):
    """One chart of a page. ``names`` is the legend, where there is more than one line."""

    title: str
    picture: Markup
    names: Markup = Markup()


_CURVES: tuple[tuple[str, str, Unit, Callable[[Step], float | None]], ...] = (
    ("loss", "mean over ranks", "", lambda step: step.loss),
    ("evaluation loss", "", "", lambda step: step.eval_loss),
    ("tokens/s", "of all ranks", "tokens/s", lambda step: step.tokens_per_s),
    ("step time", "mean over ranks", "s", lambda step: step.step_s),
    ("gradient norm", "before clipping", "", lambda step: step.grad_norm),
    ("learning rate", "", "", lambda step: step.lr),
    ("waiting for data", "share of a step", "%", lambda step: step.data_share),
    ("MFU", "model FLOPs over peak", "%", lambda step: step.mfu),
    ("peak memory", "of any rank", "B", lambda step: step.peak_bytes),
)


def curves(records: Sequence[RunRecord]) -> list[Curve]:
    """A chart for each number that any of the runs tells, over steps; restarts are marked where it is one."""
    one = len(records) == 1
    told = [(record.plan.run, as_one(record.steps)) for record in records]
    marks = _restarts(records[0]) if one else ()
    found = []
    for name, about, unit, read in _CURVES:
        series = []
        for run, steps in told:
            values = [(float(step.step), read(step)) for step in steps]
            points = tuple((place, float(value)) for place, value in values if value is not None)
            if points:
                series.append(Series(run, points))
        if not series:
            continue
        names = Markup() if one else charts.legend([each.name for each in series])
        picture = charts.lines(
            series,
            _STEP,
            Axis(name, unit),
            title=f"{name} over steps",
            height=240.0,
            marks=marks,
        )
        found.append(Curve(f"{name}, {about}" if about else name, picture, names))
    return found


def _restarts(record: RunRecord) -> list[tuple[float, str]]:
    first: dict[int, int] = {}
    for step in record.steps:
        first.setdefault(step.attempt, step.step)
    return [(float(step), f"attempt {attempt}") for attempt, step in first.items() if attempt > 1]
