"""Charts of a page: lines, bars in parts, ranges. Colours come from the style sheet, by number (``c0`` to
``c7``); a line differs in its width and dashes, too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import msgspec
from markupsafe import Markup

from clusterctl.report.html.axis import Axis, Scale, Unit, scale, written
from clusterctl.report.html.points import MANY, finite, gaps, means, path, thinned
from clusterctl.report.html.svg import picture, tag

COLOURS = 8
_WIDTH = 640.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 82.0, 28.0, 22.0, 46.0
_ROW, _BAR = 34.0, 20.0
_LETTER = 8.2
_READOUTS = 240


class Series(msgspec.Struct, frozen=True):
    """Points from left to right. What is not finite leaves a gap."""

    name: str
    points: tuple[tuple[float, float], ...]


class Bar(msgspec.Struct, frozen=True):
    """One row. ``parts`` follow one another; None in place of them shows the ``note`` alone. ``mark`` is a
    further value, drawn as a line across."""

    name: str
    parts: tuple[float, ...] | None
    note: str = ""
    mark: float | None = None


class Range(msgspec.Struct, frozen=True):
    """One row: a value and the range around it; None where there is none."""

    name: str
    middle: float | None
    low: float = 0.0
    high: float = 0.0
    note: str = ""
    colour: int | None = None
    """None: that of its place."""
    loud: bool = False
    """The one to look at: in bold, because not everybody sees its colour."""


def lines(
    series: Sequence[Series],
    x: Axis,
    y: Axis,
    *,
    title: str,
    height: float = 300.0,
    marks: Sequence[tuple[float, str]] = (),
) -> Markup:
    """All on top of one another: earlier ones are wider, so that equal lines are all seen. The values under
    the pointer stand in the upper right. ``marks`` are places along ``x`` with a word for each."""
    drawn = [(each.name, thinned(each.points)) for each in series]
    everything = [point for _, points in drawn for point in points]
    xs = [place for place, _ in everything if math.isfinite(place)] or [0.0]
    ys = [value for _, value in filter(finite, everything)] or [0.0]
    across = scale(min(xs), max(xs), _LEFT, _WIDTH - _LEFT - _RIGHT, about=8, axis=x)
    up = scale(min(ys), max(ys), height - _BOTTOM, _TOP + _BOTTOM - height, axis=y)
    content = [_grid_up(up, y), _grid_across(across, x, height)]
    if len(drawn) == 1:
        content += _not_numbers(gaps(drawn[0][1], across), height)
    for number, (name, points) in enumerate(drawn):
        width = 2.5 + min(2.5, 6 / len(drawn)) * (len(drawn) - 1 - number)
        colour = f"line c{number % COLOURS}"
        if len(points) > MANY:
            content.append(tag("path", d=path(points, across, up), class_=f"{colour} pale", stroke_width=1))
            points = means(points)
        dashes = f"d{number % 4 if number == len(drawn) - 1 else 0}"
        line = path(points, across, up)
        content.append(
            tag("path", tag("title", name), d=line, class_=f"{colour} {dashes}", stroke_width=width)
        )
        if len(points) == 1 and finite(points[0]):
            cx, cy = across.at(points[0][0]), up.at(points[0][1])
            content.append(tag("circle", cx=cx, cy=cy, r=width, class_=f"c{number % COLOURS}"))
    for place, word in marks:
        at = across.at(place)
        content.append(tag("line", x1=at, x2=at, y1=_TOP, y2=height - _BOTTOM, class_="mark"))
        content.append(tag("text", word, x=at + 4, y=height - _BOTTOM - 6, class_="note"))
    return picture(_WIDTH, height, title, *content, *readouts(drawn, across, x, y, height))


def readouts(
    drawn: Sequence[tuple[str, Sequence[tuple[float, float]]]],
    across: Scale,
    x: Axis,
    y: Axis,
    height: float,
) -> list[Markup]:
    """A strip for each place that has values: it shows them while the pointer is over it. No script."""
    told: dict[float, list[str]] = {}
    for name, points in drawn:
        label = f"{name}: " if len(drawn) > 1 else f"{y.label} "
        for place, value in points:
            told.setdefault(place, []).append(f"{label}{_exact(value, y.unit)}")
    places = sorted(told)
    places = places[:: max(1, math.ceil(len(places) / _READOUTS))]
    edges = [across.at(place) for place in places]
    bounds = [
        edges[0] if edges else 0.0,
        *((left + right) / 2 for left, right in pairwise(edges)),
        edges[-1] if edges else 0.0,
    ]
    found = []
    for place, at, (left, right) in zip(places, edges, pairwise(bounds), strict=True):
        text, below = f"{x.label} {place:.10g}", []
        if len(drawn) > 1:  # each has a line of its own: side by side they are wider than the picture
            spans = (tag("tspan", each, x=_WIDTH - _RIGHT, dy=17) for each in told[place])
            below = [tag("tspan", *spans, class_="below")]
        else:
            text += f": {told[place][0]}"
        found.append(
            tag(
                "g",
                tag("rect", x=left - 0.5, y=_TOP, width=right - left + 1, height=height - _TOP - _BOTTOM),
                tag("line", x1=at, x2=at, y1=_TOP, y2=height - _BOTTOM),
                tag("text", text, *below, x=_WIDTH - _RIGHT, y=_TOP - 6),
                class_="at",
            )
        )
    return found


def bars(rows: Sequence[Bar], kinds: Sequence[str], x: Axis, *, title: str) -> Markup:
    """Horizontal ones, in parts that ``kinds`` names."""
    left = _name_width([row.name for row in rows])
    ends = [sum(row.parts) for row in rows if row.parts is not None]
    marks = [row.mark for row in rows if row.mark is not None]
    height = _TOP + _ROW * len(rows) + _BOTTOM
    room = _note_width([row.note for row in rows if row.parts is not None])
    across = scale(0.0, max([*ends, *marks], default=1.0) or 1.0, left, _WIDTH - left - room, axis=x)
    content = [_grid_across(across, x, height)]
    for number, row in enumerate(rows):
        y = _TOP + _ROW * number
        content.append(_name(row.name, left, y))
        if row.parts is None:
            content.append(tag("text", row.note or "n/a", x=left + 8, y=y + _BAR - 2, class_="none"))
            continue
        at = 0.0
        for kind, size in enumerate(row.parts):
            said = f"{row.name}: {kinds[kind]} {written(size, x.unit)}"
            x0, x1 = across.at(at), across.at(at + size)
            content.append(
                tag(
                    "rect",
                    tag("title", said),
                    x=x0,
                    y=y + 2,
                    width=max(0.0, x1 - x0),
                    height=_BAR,
                    class_=f"part c{kind % COLOURS}",
                )
            )
            at += size
        end = across.at(max(at, row.mark or 0.0))
        if row.mark is not None:
            place = across.at(row.mark)
            line = tag("line", x1=place, x2=place, y1=y - 2, y2=y + _BAR + 6, class_="mark")
            content.append(line)
        content.append(tag("text", row.note, x=end + 8, y=y + _BAR - 3, class_="note"))
    return picture(_WIDTH, height, title, *content)


def ranges(rows: Sequence[Range], x: Axis, *, title: str) -> Markup:
    """A dot and a line for each, from a scale that begins at zero."""
    left = _name_width([row.name for row in rows])
    height = _TOP + _ROW * len(rows) + _BOTTOM
    room = _note_width([row.note for row in rows if row.middle is not None])
    highest = max([row.high for row in rows if row.middle is not None], default=1.0) or 1.0
    across = scale(0.0, highest, left, _WIDTH - left - room, axis=x)
    content = [_grid_across(across, x, height)]
    for number, row in enumerate(rows):
        y = _TOP + _ROW * number + _ROW / 2 - 4
        loud = " loud" if row.loud else ""
        content.append(_name(row.name, left, y - _BAR / 2, loud))
        if row.middle is None:
            content.append(tag("text", row.note or "n/a", x=left + 8, y=y + 5, class_="none"))
            continue
        low, middle, high = (across.at(each) for each in (row.low, row.middle, row.high))
        said = (
            f"{row.name}: {written(row.middle, x.unit)}, {written(row.low, x.unit)} to "
            f"{written(row.high, x.unit)}"
        )
        colour = f"c{(number if row.colour is None else row.colour) % COLOURS}"
        content += [
            tag("line", x1=low, x2=high, y1=y, y2=y, class_=f"whisker {colour}"),
            tag("circle", tag("title", said), cx=middle, cy=y, r=6, class_=colour),
            tag("text", row.note, x=max(high, middle + 6) + 8, y=y + 5, class_=f"note{loud}"),
        ]
    return picture(_WIDTH, height, title, *content)


def legend(names: Sequence[str]) -> Markup:
    """Which colour is what; one without a name is left out."""
    return tag(
        "ul",
        *(tag("li", tag("i", class_=f"c{n % COLOURS}"), name) for n, name in enumerate(names) if name),
        class_="legend",
    )


def _grid_up(up: Scale, axis: Axis) -> Markup:
    content = []
    for tick, text in zip(up.ticks, _ticks(up, axis), strict=True):
        y = up.at(tick)
        content += [
            tag("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y, y2=y, class_="grid"),
            tag("text", text, x=_LEFT - 8, y=y + 4, class_="tick end"),
        ]
    middle = up.start + up.length / 2
    turned = f"rotate(-90 14 {middle:.0f})"
    content.append(tag("text", axis.label, x=14, y=middle, transform=turned, class_="label up"))
    return tag("g", *content)


def _grid_across(across: Scale, axis: Axis, height: float) -> Markup:
    content = []
    for tick, text in zip(across.ticks, _ticks(across, axis), strict=True):
        x = across.at(tick)
        content += [
            tag("line", x1=x, x2=x, y1=_TOP, y2=height - _BOTTOM, class_="grid"),
            tag("text", text, x=x, y=height - _BOTTOM + 17, class_="tick"),
        ]
    middle = across.start + across.length / 2
    content.append(tag("text", axis.label, x=middle, y=height - 8, class_="label"))
    return tag("g", *content)


def _ticks(along: Scale, axis: Axis) -> list[str]:
    """With as many digits as it takes to tell them apart, and without a unit that is too long to be said at
    each: the label beside it does."""
    unit = axis.unit if len(axis.unit) == 1 else ""
    for digits in (3, 4, 5, 6):
        found = [written(tick, unit, digits) for tick in along.ticks]
        if len(set(found)) == len(found):
            break
    return found


def _not_numbers(places: Sequence[tuple[float, float]], height: float) -> list[Markup]:
    shape = {"y": _TOP, "height": height - _TOP - _BOTTOM, "class_": "gap"}
    shades = [tag("rect", x=left, width=max(1.5, right - left), **shape) for left, right in places]
    if places:
        first = places[0][0]
        late = first > _WIDTH * 0.75
        at = {"x": first - 4 if late else first + 4, "class_": "note end" if late else "note"}
        shades.append(tag("text", "NaN or inf", y=_TOP + 14, **at))
    return shades


def _exact(value: float, unit: Unit) -> str:
    if unit == "%":
        value *= 100
    return f"{value:.7g}{f' {unit}' if unit else ''}"


def _name(name: str, left: float, y: float, more: str = "") -> Markup:
    shown = name if len(name) <= _MOST_LETTERS else f"{name[: _MOST_LETTERS - 1]}…"
    return tag("text", tag("title", name), shown, x=left - 8, y=y + _BAR - 3, class_=f"name end{more}")


_MOST_LETTERS = 24


def _name_width(names: Sequence[str]) -> float:
    return 20 + _LETTER * min(_MOST_LETTERS, max(map(len, names), default=0))


def _note_width(notes: Sequence[str]) -> float:
    return 24 + _LETTER * max(map(len, notes), default=0)
