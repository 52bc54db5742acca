"""Where verbs print: results to stdout, everything else to stderr. NO_COLOR is honoured (by rich).

Whatever a host sent is made harmless here, once for all verbs: no escape sequence, no markup of rich's.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from clusterctl.errors import ClusterctlError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from clusterctl.cli.live import LiveOutput
    from clusterctl.cli.terminal import Terminal
    from clusterctl.inventory.model import HostfileWarning
    from clusterctl.plan.model import LaunchPlan


@functools.cache
def out() -> Console:
    """The console on stdout. Made on first use: rich costs more than `--help` may take."""
    from clusterctl.cli.console import HarmlessConsole

    return HarmlessConsole(highlight=False, soft_wrap=True, markup=False, emoji=False)


@functools.cache
def err() -> Console:
    """The console on stderr."""
    from clusterctl.cli.console import HarmlessConsole

    return HarmlessConsole(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)


def at_home(path: Path) -> Path:
    """As a person writes it, with ~ for the home directory."""
    home = Path.home()
    return Path("~", path.relative_to(home)) if path.is_relative_to(home) else path


def show(page: RenderableType) -> None:
    """A page made for the width of the screen, on stdout; commands to paste are never broken."""
    out().print(page, soft_wrap=False, crop=False)


def rendered(page: RenderableType) -> bytes:
    """What `show` would print, for a `Terminal` to write."""
    console = out()
    with console.capture() as capture:
        console.print(page, soft_wrap=False, crop=False)
    return capture.get().encode(console.encoding, "clusterctl")


def live(plan: LaunchPlan, terminal: Terminal, *, engine: bool = False, bare: bool = False) -> LiveOutput:
    """What the ranks of ``plan`` print, in the colours and encoding of stdout."""
    from rich.color import Color, ColorSystem

    from clusterctl.cli.live import LiveOutput

    console = out()
    systems = {
        "standard": ColorSystem.STANDARD,
        "256": ColorSystem.EIGHT_BIT,
        "truecolor": ColorSystem.TRUECOLOR,
    }
    system = systems.get(console.color_system or "")

    def paint(red: int, green: int, blue: int) -> bytes:
        assert system is not None
        codes = Color.from_rgb(red, green, blue).downgrade(system).get_ansi_codes()
        return f"\x1b[{';'.join(codes)}m".encode()

    coloured = system is not None and not console.no_color
    encoding = sys.stdout.encoding or "utf-8"
    return LiveOutput(
        plan, terminal, paint=paint if coloured else None, encoding=encoding, engine=engine, bare=bare
    )


def farewell(terminal: Terminal, page: RenderableType) -> None:
    """The last words of a run, put behind all that still waits for the reader of stdout.

    When that reader takes nothing for some seconds, they go to stderr, if that is another place; the verb
    ends in any case.
    """
    from clusterctl.cli import terminal as terminals
    from clusterctl.cli.streams import same_place

    text = rendered(page)
    if terminal.close(text) or same_place(1, 2):
        return
    if terminal.lost is None or not terminals.gone(terminal.lost):
        reason = terminal.lost.strerror if terminal.lost is not None else "nobody reads it"
        note = f"stdout takes nothing any more ({reason}); the end of the run:\n"
        terminals.Terminal(2).close(note.encode() + text)


def ring(plan: LaunchPlan) -> None:
    """The bell of this terminal, where somebody who launched ``plan`` wants it."""
    if "bell" in plan.notify and sys.stderr.isatty():
        sys.stderr.write("\a")
        sys.stderr.flush()


def print_error(error: ClusterctlError) -> None:
    """``error: what is true`` and ``hint: what to do``, on stderr."""
    complain("error", error.message, error.hint)


def print_warnings(warnings: Iterable[HostfileWarning]) -> None:
    """Lines of the hostfile and of the profile that are not what they seem, on stderr."""
    for warning in warnings:
        complain("warning", f"{warning.where}: {warning.message}", warning.hint)


def complain(kind: str, message: str, hint: str = "") -> None:
    """One message on stderr, in the form all messages have. ``kind`` is ``error`` or ``warning``."""
    from rich.text import Text

    style = "bold red" if kind == "error" else "yellow"
    err().print(Text.assemble((f"{kind}: ", style), message))
    if hint:
        err().print(Text.assemble(("hint: ", "cyan"), hint))
