"""Who reached whom: a square for each pair of hosts, source by row, target by column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from clusterctl.facts.model import Dial
from clusterctl.report.html.svg import picture, tag

_CELL, _LEFT, _TOP = 22.0, 150.0, 26.0
_SMALL = 5.0
MOST = 128
_UNKNOWN = ("connected", "unsettled")


def worst(dials: Sequence[Dial]) -> dict[tuple[str, str], Dial]:
    """(source, target) -> what failed between them, else what nobody knows, else what passed."""
    found: dict[tuple[str, str], Dial] = {}
    for dial in dials:
        pair = (dial.source, dial.target)
        if dial.is_path and (pair not in found or _rank(dial) > _rank(found[pair])):
            found[pair] = dial
    return found


def matrix(hosts: Sequence[str], dials: Sequence[Dial]) -> Markup:
    """Empty where a pair was not tried. Hosts beyond the first `MOST` are left out. Rows and
    columns bear the node ranks."""
    shown = list(hosts)[:MOST]
    told = worst(dials)
    cell = _CELL if len(shown) <= 24 else _SMALL
    width, height = _LEFT + cell * len(shown) + 20, _TOP + cell * len(shown) + 8
    content = []
    for row, source in enumerate(shown):
        y = _TOP + cell * row
        if cell == _CELL:
            name = f"{row} {source}" if len(source) <= 16 else f"{row} {source[:15]}…"
            middle = _LEFT + cell * (row + 0.5) - 1
            content.append(tag("text", f"{row}", x=middle, y=_TOP - 8, class_="label"))
            content.append(tag("text", name, x=_LEFT - 8, y=y + 15, class_="name end"))
        content += [
            _square(source, target, told.get((source, target)), _LEFT + cell * column, y, cell)
            for column, target in enumerate(shown)
        ]
    return picture(width, height, "which hosts reached which", *content, as_is=True)


def _square(source: str, target: str, dial: Dial | None, x: float, y: float, cell: float) -> Markup:
    kind, word = _kind(source, target, dial)
    said = f"{source} to {target}: {word}"
    if dial is not None and dial.result == "ok" and dial.seconds:
        said += f", {dial.seconds * 1000:.2f} ms"
    size = cell - (2 if cell > _SMALL else 0)
    square = tag("rect", tag("title", said), x=x, y=y, width=size, height=size, class_=f"pair {kind}")
    if cell <= _SMALL or kind in ("none", "self"):
        return square
    mark = {"ok": "✓", "bad": "✗", "unknown": "?"}[kind]  # not by colour alone
    return tag("g", square, tag("text", mark, x=x + size / 2, y=y + 15, class_="mark-in"))


def _kind(source: str, target: str, dial: Dial | None) -> tuple[str, str]:
    if source == target:
        return "self", "itself"
    if dial is None:
        return "none", "not tried"
    if dial.result == "ok":
        return "ok", "reached"
    return ("unknown" if dial.result in _UNKNOWN else "bad"), f"{dial.result} at port {dial.port}"


def _rank(dial: Dial) -> int:
    return 0 if dial.result == "ok" else 1 if dial.result in _UNKNOWN else 2


def counted(hosts: Sequence[str], dials: Sequence[Dial]) -> Mapping[str, int]:
    """How many pairs are of each kind."""
    told = worst(dials)
    found = {"ok": 0, "bad": 0, "unknown": 0, "none": 0}
    for source in hosts:
        for target in hosts:
            if source != target:
                found[_kind(source, target, told.get((source, target)))[0]] += 1
    return found
