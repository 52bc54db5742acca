"""`clusterctl top` with keys: the same rows on a Textual screen, to move in, to filter and to look closer."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import threading
import time
from typing import ClassVar

from rich.console import Group
from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import Screen
from textual.widgets import Input, Static

from clusterctl.cli.top_table import Table
from clusterctl.report import top_details
from clusterctl.report.runs import span
from clusterctl.report.top import Overview, Row, summary
from clusterctl.report.top_page import Sheet, fitted, run_lines, sheet
from clusterctl.session.top import Hearing

_REFRESH = 1.0
_AT_FIRST = 0.25
"""Seconds between looks, until every host has said something."""
_LEAVE = 2.0
_KEYS = "↑↓ move  enter look closer  / filter  p pause  ? help  q quit"
_KEYS_CLOSER = "↑↓ scroll  esc back  q quit"
_HELP = """\
up, down, j, k        one line
page up, page down    a page; home and end: the first and the last line
enter                 look closer: its last minutes, the last lines of a rank,
                      and what to type to go there
/                     show lines that hold a text as you type it: a host, a
                      user, a run, a command, free, idle
esc                   back; in the list: show all lines again
p                     pause what is shown, and go on; hosts are heard meanwhile
q, Ctrl-C             quit
"""


class Closer(Screen[None]):
    """All that is known of one row."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,enter,left", "app.back", show=False)]

    def __init__(self, hearing: Hearing, row: Row) -> None:
        super().__init__()
        self._hearing = hearing
        self._row = row

    def compose(self) -> ComposeResult:
        with VerticalScroll():
            yield Static(Text("looking ...", style="dim"), id="details")
        yield Static(_KEYS_CLOSER, classes="keys")

    def on_mount(self) -> None:
        self._hearing.look_closer(self._row)
        self.set_interval(_AT_FIRST, self._look)

    def on_unmount(self) -> None:
        self._hearing.look_closer(None)

    def _look(self) -> None:
        details = self._hearing.details
        if details is not None:
            lines = top_details.lines(details, width=self.size.width - 2)
            self.query_one("#details", Static).update(Group(*lines))


class Help(Screen[None]):
    """The keys."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,enter,question_mark", "app.back", show=False)]

    def compose(self) -> ComposeResult:
        yield VerticalScroll(Static(Text(_HELP)))
        yield Static(_KEYS_CLOSER, classes="keys")


class TopScreen(App[None]):
    """`show` it. The colours are the terminal's own."""

    ENABLE_COMMAND_PALETTE = False
    CSS = """
    Screen { layout: vertical; background: ansi_default; color: ansi_default; }
    Static { height: auto; background: ansi_default; color: ansi_default; }
    #summary, .keys, #head { height: 1; }
    #summary { text-style: bold; }
    .keys { dock: bottom; text-style: dim; }
    Table { height: 1fr; background: ansi_default; scrollbar-size-vertical: 0; scrollbar-size-horizontal: 0; }
    #runs { max-height: 40%; }
    #filtering { height: 1; display: none; layout: horizontal; }
    Input, Input:focus { height: 1; border: none; padding: 0; background: ansi_default; color: ansi_default; }
    VerticalScroll { scrollbar-size-vertical: 0; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+c", "quit", show=False, priority=True),
        Binding("q", "quit", show=False),
        Binding("slash", "filter", show=False, priority=True),  # what follows it is for the field
        Binding("escape", "show_all", show=False),
        Binding("p", "pause", show=False),
        Binding("enter", "closer", show=False),
        Binding("question_mark,h", "help", show=False),
    ]

    def __init__(self, hearing: Hearing, only: str = "") -> None:
        super().__init__(ansi_color=True)
        self._hearing = hearing
        self._only = only
        self._paused: Overview | None = None
        self._sheet: Sheet | None = None
        self._shown = 0.0
        self._fault: BaseException | None = None

    def show(self) -> None:
        """Until somebody quits. Raises what ended the hearing."""
        self.run(mouse=False)  # a terminal's own marking of text goes on to work
        if self._fault is not None:
            raise self._fault

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(id="summary", markup=False)
            yield Static(id="head")
            yield Table()
            yield Static(id="runs")
            with Vertical(id="filtering"):
                yield Input(value=self._only, placeholder="a host, a user, a run, free, idle", compact=True)
        yield Static(_KEYS, id="keys", classes="keys", markup=False)

    def on_mount(self) -> None:
        for number in (signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, self._leave)
        self.query_one(Table).focus()
        self._show_filter()
        self._look(now=True)
        self.set_interval(_AT_FIRST, self._look)

    def on_resize(self) -> None:
        self._sheet = None
        self.call_after_refresh(self._look, now=True)

    def on_input_changed(self, event: Input.Changed) -> None:
        self._only = event.value
        self._look(now=True)

    def on_input_submitted(self) -> None:
        self._show_filter()
        self.query_one(Table).focus()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """A slash in the field is a letter."""
        return action != "filter" or not (len(self.screen_stack) > 1 or isinstance(self.focused, Input))

    def action_filter(self) -> None:
        self.query_one("#filtering").display = True
        self.screen.set_focus(self.query_one(Input))

    def action_show_all(self) -> None:
        self.query_one(Input).value = ""
        self._show_filter()
        self.query_one(Table).focus()

    def action_pause(self) -> None:
        self._paused = self._hearing.overview() if self._paused is None else None
        self._look(now=True)

    def action_closer(self) -> None:
        row = self.query_one(Table).row
        if row is not None and not isinstance(self.screen, Closer):
            self.push_screen(Closer(self._hearing, row))

    def action_help(self) -> None:
        self.push_screen(Help())

    async def action_quit(self) -> None:
        self.exit()

    def _leave(self) -> None:
        """At a signal: also where the terminal takes nothing any more."""
        self.exit()
        last = threading.Timer(_LEAVE, os._exit, (128 + signal.SIGTERM,))
        last.daemon = True
        last.start()

    def _show_filter(self) -> None:
        self.query_one("#filtering").display = bool(self._only)

    def _look(self, *, now: bool = False) -> None:
        """Draw what is new; nothing to a terminal that takes nothing."""
        pause = _REFRESH if self._hearing.settled else _AT_FIRST
        if not now and (time.monotonic() - self._shown < pause or not _takes(2)):
            return
        self._shown = time.monotonic()
        try:
            over = self._hearing.over
        except BaseException as error:  # noqa: BLE001 - raised by `show`, when the screen is the shell's again
            self._fault = error
            self.exit()
            return
        base = self.screen_stack[0]
        overview, width = self._paused or self._hearing.overview(), base.size.width
        self._sheet = sheet(overview, width=width, only=self._only, before=self._sheet)
        said = [summary(overview)]
        if self._only:
            count = len(self._sheet.rows)
            said.append(f"{count} {'line holds' if count == 1 else 'lines hold'} {self._only!r}")
        if self._paused is not None:
            said.append(f"paused {span(max(0.0, time.time() - overview.now))} ago: p goes on")
        elif over:
            said.append("the end of the recording")
        runs = fitted(run_lines(overview, width=width), base.size.height * 2 // 5)
        base.query_one("#summary", Static).update("; ".join(said))
        base.query_one("#head", Static).update(self._sheet.head())
        base.query_one("#runs", Static).update(Group(*runs))
        table = base.query_one(Table)
        table.show(self._sheet)
        base.query_one("#keys", Static).update(f"{_KEYS}{table.place:>{max(0, width - len(_KEYS))}}")


def _takes(descriptor: int) -> bool:
    return bool(select.select((), (descriptor,), (), 0)[1])
