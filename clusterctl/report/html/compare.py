"""How strategies compare, as one HTML file, and its charts for other pages. No I/O."""

from __future__ import annotations

from markupsafe import Markup

from clusterctl.advise.compare.judge import Judgement, Row
from clusterctl.advise.compare.model import KINDS, Comparison, Trial
from clusterctl.report import compare as text
from clusterctl.report.html import pages
from clusterctl.report.html.axis import Axis, written
from clusterctl.report.html.charts import Bar, Range, Series, bars, legend, lines, ranges


def page(comparison: Comparison, judged: Judgement) -> str:
    """The whole page."""
    unit, name = text.memory_unit(judged.rows)
    return pages.page(
        "compare.html",
        record=comparison,
        judged=judged,
        question=text.question(comparison).split("\n"),
        verdict=text.verdict(judged.parity),
        small_print=text.small_print(judged),
        unit=name,
        memory={row.strategy: text.memory_cells(row, unit) for row in judged.rows},
        steps={row.strategy: text.step_time(row.seconds) for row in judged.rows},
        rates={row.strategy: text.number(row.rate, "") for row in judged.rows},
        size=text.size,
        seconds=lambda value: written(float(value), "s"),
        charts=charts(comparison, judged),
        kinds=legend(KINDS),
        names=legend(_drawn(comparison)),
        devices=sorted({trial.told.device for trial in comparison.trials if trial.told}),
    )


def charts(comparison: Comparison, judged: Judgement) -> dict[str, Markup]:
    """By name: ``memory``, ``rate``, ``loss``, ``wire``; those that there is something to show in."""
    found = {}
    rows = judged.rows
    if any(row.held for row in rows):
        found["memory"] = bars(
            [_held(row) for row in rows],
            KINDS,
            Axis("bytes of one rank", "B"),
            title="Memory of a rank by kind",
        )
    if any(row.rate for row in rows):
        found["rate"] = ranges(
            [_rate(row) for row in rows],
            Axis("tokens per second of one rank", "tokens/s"),
            title="Tokens per second of one rank",
        )
    elif any(row.seconds for row in rows):
        found["rate"] = ranges(
            [_time(row) for row in rows], Axis("seconds of one step", "s"), title="Time of a step"
        )
    if any(row.sent for row in rows):
        found["wire"] = bars(
            [_sent(row) for row in rows],
            ("sent",),
            Axis("bytes sent by one host in a step", "B"),
            title="Bytes on the wire in a step",
        )
    curves = [_curve(comparison, name) for name in _drawn(comparison)]
    if curves:
        found["loss"] = lines(curves, Axis("step"), Axis("loss"), title="Losses of all strategies")
    return found


def _drawn(comparison: Comparison) -> list[str]:
    """Strategies that told of losses."""
    return [name for name in comparison.strategies if any(map(_losses, comparison.of(name)))]


def _losses(trial: Trial) -> tuple[tuple[float, float], ...]:
    return tuple((float(step.step), step.loss) for step in trial.steps if step.loss is not None)


def _curve(comparison: Comparison, name: str) -> Series:
    """Of its first trial that told of any."""
    return Series(name, next(filter(None, map(_losses, comparison.of(name)))))


def _held(row: Row) -> Bar:
    if row.held is None:
        return Bar(row.strategy, None, _missing(row))
    note = f"peak {written(float(row.held.peak), 'B')}"
    return Bar(row.strategy, tuple(map(float, row.held.kinds)), note, mark=float(row.held.peak))


def _sent(row: Row) -> Bar:
    if row.sent is None:
        return Bar(row.strategy, None, _missing(row))
    said = "" if row.said_sent is None else f", said {written(float(row.said_sent), 'B')}"
    mark = None if row.said_sent is None else float(row.said_sent)
    return Bar(row.strategy, (row.sent,), f"{written(row.sent, 'B')}{said}", mark=mark)


def _rate(row: Row) -> Range:
    if row.rate is None:
        return Range(row.strategy, None, note=_missing(row))
    rate = row.rate
    return Range(row.strategy, rate.middle, rate.low, rate.high, written(rate.middle, "tokens/s"))


def _time(row: Row) -> Range:
    if row.seconds is None:
        return Range(row.strategy, None, note=_missing(row))
    took = row.seconds
    return Range(row.strategy, took.middle, took.low, took.high, written(took.middle, "s"))


def _missing(row: Row) -> str:
    if row.measured:
        return "n/a"
    said = row.cause or "not measured"
    return said if len(said) <= 60 else f"{said[:59]}…"
