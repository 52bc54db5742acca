"""The points of a line as it is drawn: not more of them than a screen shows, and where there are none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from clusterctl.report.html.axis import Scale

MANY = 400
"""With more points than that a line that jumps is a block: it is drawn pale, and its mean over it."""
_MOST_POINTS = 1500
_STRETCHES = 120

Point = tuple[float, float]


def thinned(points: Sequence[Point]) -> list[Point]:
    """Not more than a screen can show: of each stretch the lowest and the highest."""
    if len(points) <= _MOST_POINTS:
        return list(points)
    size = 2 * len(points) / _MOST_POINTS
    edges = [round(size * number) for number in range(_MOST_POINTS // 2 + 1)]
    found: list[Point] = []
    for start, end in pairwise(edges):
        stretch = sorted(filter(finite, points[start:end]), key=lambda point: point[1])
        found += sorted({stretch[0], stretch[-1]}) if stretch else [points[start]]
    return found


def means(points: Sequence[Point]) -> list[Point]:
    """The mean of each of `_STRETCHES` stretches, in its middle."""
    size = len(points) / _STRETCHES
    found = []
    for number in range(_STRETCHES):
        stretch = points[round(size * number) : round(size * (number + 1))]
        told = [value for _, value in filter(finite, stretch)]
        middle = stretch[len(stretch) // 2][0]
        found.append((middle, sum(told) / len(told) if told else math.nan))
    return found


def gaps(points: Sequence[Point], across: Scale) -> list[tuple[float, float]]:
    """Where values were NaN or infinite, in pixels from left to right: to leave them out would look as if
    nothing was told there."""
    found: list[tuple[float, float]] = []
    for point, after in pairwise([*points, *points[-1:]]):
        if finite(point):
            continue
        left, right = across.at(point[0]), across.at(after[0])
        if found and left - found[-1][1] < 1:
            found[-1] = (found[-1][0], right)
        else:
            found.append((left, right))
    return found


def path(points: Sequence[Point], across: Scale, up: Scale) -> str:
    said, pen = [], "M"
    for point in points:
        if not finite(point):
            pen = "M"
            continue
        said.append(f"{pen}{across.at(point[0]):.1f} {up.at(point[1]):.1f}")
        pen = "L"
    return "".join(said)


def finite(point: Point) -> bool:
    return all(map(math.isfinite, point))
