"""How busy each host was over the time of a run: a row for each, dark where it was busy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from markupsafe import Markup

from clusterctl.report.html.axis import Axis, Scale, scale, written
from clusterctl.report.html.svg import picture, tag
from clusterctl.store.sample import Sample

LEVELS = 5
_WIDTH, _LEFT, _RIGHT, _TOP, _BOTTOM = 640.0, 120.0, 28.0, 22.0, 44.0
_TIME = Axis("time since the start", "s")
_COLUMNS = 180
MOST_HOSTS = 128
_LONGEST = 20.0
"""Seconds that one sample tells of at most: where several are missing, nothing is told."""
_GAP = 0.15
"""Of a row's height."""


def busy(sample: Sample) -> float | None:
    """Mean use of its GPUs, where it has some that tell; else of its cores."""
    told = [gpu.use for gpu in sample.gpus or () if gpu is not None and gpu.use is not None]
    return fmean(told) if told else sample.cpu


def strip(
    samples: Mapping[str, Sequence[Sample]], began: float, ended: float, marks: Sequence[tuple[float, str]]
) -> Markup:
    """``began`` and ``ended`` are wall clock, ``marks`` too. Where nothing was told the row is empty."""
    hosts = list(samples)[:MOST_HOSTS]
    row = 20.0 if len(hosts) <= 24 else 8.0
    height = _TOP + row * len(hosts) + _BOTTOM
    across = scale(0.0, max(ended - began, 1.0), _LEFT, _WIDTH - _LEFT - _RIGHT, about=7, axis=_TIME)
    content = [_ticks(across, height)]
    cells: list[list[str]] = [[] for _ in range(LEVELS)]
    for number, host in enumerate(hosts):
        top = _TOP + row * number
        said = _columns(samples[host], began, across)
        for level, first, last in _stretches(said):
            x, width = across.start + first, last - first
            cells[level].append(f"M{x:.1f} {top:.0f}h{width:.1f}v{row * (1 - _GAP):.1f}h-{width:.1f}z")
        content.append(_host(host, top, row, samples[host]))
    content += [tag("path", d="".join(each), class_=f"busy b{n}") for n, each in enumerate(cells) if each]
    for at, label in marks:
        x = across.at(at - began)
        content.append(tag("line", x1=x, x2=x, y1=_TOP - 6, y2=height - _BOTTOM, class_="mark"))
        content.append(tag("text", label, x=x, y=_TOP - 9, class_="tick"))
    return picture(_WIDTH, height, "how busy each host was", *content)


def shades() -> Markup:
    """Which shade is how busy."""
    words = (f"{100 * n // LEVELS} to {100 * (n + 1) // LEVELS} %" for n in range(LEVELS))
    items = (tag("li", tag("i", class_=f"c0 b{n}"), word) for n, word in enumerate(words))
    return tag("ul", *items, class_="legend")


def _columns(samples: Sequence[Sample], began: float, across: Scale) -> list[float | None]:
    """The mean of what was told in each of `_COLUMNS` stretches of time. A sample tells of the time since the
    one before."""
    told: list[list[float]] = [[] for _ in range(_COLUMNS)]
    length = (across.high - across.low) / _COLUMNS
    before = began
    for sample in samples:
        value = busy(sample)
        since = max(before, sample.time - _LONGEST)
        before = sample.time
        first, last = int((since - began) / length), int((sample.time - began) / length)
        if value is not None:
            for place in range(max(0, first), min(last, _COLUMNS - 1) + 1):
                told[place].append(value)
    return [fmean(each) if each else None for each in told]


def _stretches(values: Sequence[float | None]) -> list[tuple[int, float, float]]:
    """(level, from, to) of neighbours at one level, in pixels from the left."""
    width = (_WIDTH - _LEFT - _RIGHT) / _COLUMNS
    found: list[tuple[int, float, float]] = []
    for place, value in enumerate(values):
        if value is None:
            continue
        level = min(LEVELS - 1, int(value * LEVELS))
        first, last = place * width, (place + 1) * width
        if found and found[-1][0] == level and abs(found[-1][2] - first) < 1e-6:
            first = found.pop()[1]
        found.append((level, first, last))
    return found


def _host(host: str, top: float, row: float, samples: Sequence[Sample]) -> Markup:
    told = [value for value in map(busy, samples) if value is not None]
    said = f"{host}: busy {fmean(told):.0%} of the time" if told else f"{host}: told nothing"
    area = tag("rect", tag("title", said), x=0, y=top, width=_WIDTH, height=row, class_="row")
    size = "" if row > 12 else " small"
    name = host if len(host) <= 15 else f"{host[:14]}…"
    return tag("g", tag("text", name, x=_LEFT - 8, y=top + row * 0.7, class_=f"name end{size}"), area)


def _ticks(across: Scale, height: float) -> Markup:
    content = []
    for tick in across.ticks:
        x = across.at(tick)
        content.append(tag("line", x1=x, x2=x, y1=_TOP - 4, y2=height - _BOTTOM, class_="grid"))
        content.append(tag("text", written(tick, "s"), x=x, y=height - _BOTTOM + 17, class_="tick"))
    middle = across.start + across.length / 2
    content.append(tag("text", _TIME.label, x=middle, y=height - 8, class_="label"))
    return tag("g", *content)
