"""The list of `clusterctl top`'s screen: one line for each GPU and what uses it, one of them chosen."""

from __future__ import annotations

from typing import ClassVar

from rich.style import Style
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from clusterctl.report.top import Row
from clusterctl.report.top_page import Sheet


class Table(ScrollView, can_focus=True):
    """The rows, one of which is chosen. Lines that stay the same are not drawn again."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", show=False),
        Binding("down,j", "move(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown,space", "page(1)", show=False),
        Binding("home,g", "move(-1000000)", show=False),
        Binding("end,G", "move(1000000)", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._sheet: Sheet | None = None
        self._chosen = 0

    @property
    def row(self) -> Row | None:
        """The chosen one."""
        rows = self._sheet.rows if self._sheet is not None else ()
        return rows[self._chosen] if self._chosen < len(rows) else None

    @property
    def place(self) -> str:
        """Which lines are seen, where that is not all."""
        count, first = len(self._sheet.rows) if self._sheet is not None else 0, self.scroll_offset.y
        last = min(count, first + self.size.height)
        return (
            "" if not self.size.height or (not first and last == count) else f"{first + 1}-{last} of {count}"
        )

    def show(self, new: Sheet) -> None:
        """What is chosen stays so, wherever it stands now."""
        before, chosen = self._sheet, self.row
        old = self._chosen
        self._sheet = new
        keys = [_key(row) for row in new.rows]
        if chosen is not None and _key(chosen) in keys:
            self._chosen = keys.index(_key(chosen))
        self._chosen = max(0, min(self._chosen, len(keys) - 1))
        self.virtual_size = Size(self.size.width, len(keys))
        if before is None or len(before.rows) != len(new.rows):
            self.refresh()
            return
        first = self.scroll_offset.y
        for number in range(first, min(first + self.size.height, len(keys))):
            moved = (number == old) != (number == self._chosen)
            if moved or before.line(number) != new.line(number):
                self._draw(number)

    def render_line(self, y: int) -> Strip:
        number, width = y + self.scroll_offset.y, self.size.width
        if self._sheet is None or number >= len(self._sheet.rows):
            return Strip.blank(width)
        text = self._sheet.line(number)
        chosen = Style(reverse=True) if number == self._chosen and self.has_focus else Style()
        return Strip(text.render(self.app.console)).adjust_cell_length(width).apply_style(chosen)

    def action_move(self, by: int) -> None:
        count = len(self._sheet.rows) if self._sheet is not None else 0
        before, self._chosen = self._chosen, max(0, min(count - 1, self._chosen + by))
        self._draw(before)
        self._draw(self._chosen)
        first, room = self.scroll_offset.y, self.size.height
        if not first <= self._chosen < first + room:
            top = self._chosen if self._chosen < first else self._chosen - room + 1
            self.scroll_to(y=top, animate=False)

    def action_page(self, by: int) -> None:
        self.action_move(by * max(1, self.size.height - 1))

    def on_focus(self) -> None:
        self._draw(self._chosen)

    def on_blur(self) -> None:
        self._draw(self._chosen)

    def _draw(self, number: int) -> None:
        self.refresh(Region(0, number - self.scroll_offset.y, self.size.width, 1))


def _key(row: Row) -> tuple[str, int | None, int | None]:
    return (row.host, row.gpu, row.job.pid if row.job is not None else None)
