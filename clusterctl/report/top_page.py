"""What `top` shows as lines of a screen: the table, and how far runs are. No I/O."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
from rich.cells import cell_len, set_cell_size
from rich.console import Group, RenderableType
from rich.text import Text

from clusterctl.report import pace as pacing
from clusterctl.report.harmless import harmless
from clusterctl.report.runs import span
from clusterctl.report.top import RIGHT, Overview, Row, RunLine, head, is_wide, rows, summary

_BLOCKS = "▁▂▃▄▅▆▇█"
_SPARK = 24
_GAP = " "
_LONGEST_USER = 12
_SHORTEST_HOST = 20


class Sheet(msgspec.Struct, frozen=True, kw_only=True):
    """Rows, and how wide their columns are. `line` lays out one of them."""

    rows: tuple[Row, ...]
    widths: tuple[int, ...]
    width: int

    def head(self) -> Text:
        names = head(wide=is_wide(self.width))
        return Text(self._laid_out(names), style="dim", no_wrap=True, overflow="ellipsis", end="")

    def line(self, number: int) -> Text:
        row, before = self.rows[number], self.rows[number - 1] if number else None
        cells = row.cells
        if len(cells) == 2:
            text = _cell(cells[0], self.widths[0], right=False) + _GAP + cells[1]
        else:
            again = row.own and before is not None and _same_card(before, row)
            shown = ("",) * (len(cells) - row.own) + cells[-row.own :] if again else cells
            text = self._laid_out(shown)
        return Text(_cut(text.rstrip(), self.width), style=row.style, no_wrap=True, end="")

    def _laid_out(self, cells: Sequence[str]) -> str:
        names = head(wide=is_wide(self.width))
        *parts, last = zip(cells, self.widths, names, strict=True)
        laid = [_cell(cell, width, right=name in RIGHT) for cell, width, name in parts]
        return _GAP.join([*laid, last[0]])


def sheet(overview: Overview, *, width: int, only: str = "", before: Sheet | None = None) -> Sheet:
    """Of the rows that hold ``only``. Columns are never narrower than ``before``, so that nothing jumps."""
    found = rows(overview, wide=is_wide(width), only=only)
    names = head(wide=is_wide(width))
    widest = [len(name) for name in names]
    if before is not None and len(before.widths) == len(names):
        widest = list(before.widths)
    for row in found:
        cells = row.cells if len(row.cells) == len(names) else row.cells[:1]
        for number, cell in enumerate(cells):
            widest[number] = max(widest[number], len(cell) if cell.isascii() else cell_len(cell))
    widest[0] = min(widest[0], max(_SHORTEST_HOST, width // 4))
    user = names.index("user")
    widest[user] = min(widest[user], _LONGEST_USER)
    return Sheet(rows=tuple(found), widths=tuple(widest), width=width)


def render(overview: Overview, *, width: int, only: str = "", height: int | None = None) -> RenderableType:
    """The table and the runs below it, in ``height`` lines where that is limited: what a screen has no room
    for is counted."""
    table = sheet(overview, width=width, only=only)
    runs, room = run_lines(overview, width=width), len(table.rows)
    if height is not None:
        runs = fitted(runs, height // 2)
        room = max(1, height - len(runs) - 2)
    fits = room >= len(table.rows)
    shown = [table.line(number) for number in range(len(table.rows) if fits else room - 1)]
    if not fits:
        shown.append(_more(len(table.rows) - len(shown), width))
    return Group(*map(_whole, (table.head(), *shown, Text(summary(overview), style="dim"), *runs)))


def run_lines(overview: Overview, *, width: int) -> list[Text]:
    """A few lines for each run, with an empty one before each."""
    found: list[Text] = []
    for run in overview.runs:
        found += [Text(""), *_run(run, overview.now)]
    for line in found:
        line.truncate(width, overflow="ellipsis")
    return found


def fitted(lines: list[Text], room: int) -> list[Text]:
    """As many of them as there is room for; the last says how many there are more."""
    if len(lines) <= room:
        return lines
    kept = lines[: max(0, room - 1)]
    return [*kept, _more(len(lines) - len(kept), 80)] if room > 0 else []


def _more(number: int, width: int) -> Text:
    return Text(_cut(f"... {number} more lines", width), style="dim", no_wrap=True)


def _run(run: RunLine, now: float) -> list[Text]:
    title = Text.assemble((run.run, "bold"), f"  {run.status}, {run.ranks} ranks on {run.hosts} hosts")
    if run.status == "running":
        title.append(f", its controller heard {span(max(0.0, now - run.heard))} ago", "dim")
    found = [title]
    if run.pace is not None:
        age = "" if run.pace.time is None else span(max(0.0, now - run.pace.time))
        found += pacing.text(run.pace, age=age).split("\n")
    if spark := sparkline(run.losses):
        found.append(Text.assemble(("loss  ", "dim"), spark))
    if run.last:
        found.append(Text.assemble(("said  ", "dim"), harmless(run.last)))
    return found


def sparkline(values: Sequence[float | None], *, most: int = _SPARK, top: float | None = None) -> str:
    """The newest ``most`` values as blocks, lowest to highest, or 0 to ``top``; a gap where a value is not
    known or not finite."""
    newest = [math.nan if each is None else each for each in values[-most:]]
    finite = [value for value in newest if math.isfinite(value)]
    if len(finite) < 2:
        return ""
    low, high = (min(finite), max(finite)) if top is None else (0.0, top)
    scale = (len(_BLOCKS) - 1) / (high - low) if high > low else 0.0
    return "".join(
        _BLOCKS[min(len(_BLOCKS) - 1, round((each - low) * scale))] if math.isfinite(each) else " "
        for each in newest
    )


def _same_card(before: Row, row: Row) -> bool:
    return bool(before.own) and (before.host, before.gpu) == (row.host, row.gpu)


def _cell(text: str, width: int, *, right: bool) -> str:
    if text.isascii() and len(text) <= width:
        return text.rjust(width) if right else text.ljust(width)
    text = _cut(text, width)
    return " " * (width - cell_len(text)) + text if right else set_cell_size(text, width)


def _cut(text: str, width: int) -> str:
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, width - 1).rstrip() + "…"


def _whole(line: Text) -> Text:
    line.end = "\n"
    return line
