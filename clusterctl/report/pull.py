"""What came back from the hosts of a run: a line per host, its files with their sizes below. No I/O."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from rich.console import Group, RenderableType
from rich.text import Text

from clusterctl.inventory.fold import fold

_NAMED = 8


class Arrival(msgspec.Struct, frozen=True, kw_only=True):
    """What came from one host: relative path -> bytes; ``problem`` says why not all, or nothing."""

    host: str
    files: dict[str, int] = {}
    problem: str = ""


def render(answers: Sequence[Arrival]) -> RenderableType:
    """``node1  3 files, 12.4 MB``, then the first of them."""
    width = max(len(answer.host) for answer in answers)
    parts: list[RenderableType] = []
    for answer in answers:
        title = Text.assemble((answer.host.ljust(width), "bold"), "  ")
        if answer.files:
            count = len(answer.files)
            title.append(f"{count} file{'' if count == 1 else 's'}, {size(sum(answer.files.values()))}")
        elif not answer.problem:
            title.append("nothing", "dim")
        if answer.problem:
            title.append(("; " if answer.files else "") + printable(answer.problem), "yellow")
        parts.append(title)
        parts += _files(answer, indent=" " * (width + 2))
    return Group(*parts)


def shared(hosts: Sequence[str], root: str) -> RenderableType:
    """For hosts that work in this machine's own directory."""
    text = f"worked in {printable(root)} itself, which is this machine's too: nothing to bring"
    return Text.assemble((fold(hosts), "bold"), f"  {text}", no_wrap=True, overflow="ignore")


def _files(answer: Arrival, *, indent: str) -> list[RenderableType]:
    shown = sorted(answer.files.items())[:_NAMED]
    lines: list[RenderableType] = [
        Text(f"{indent}{size(count):>9}  {printable(name)}", style="dim", no_wrap=True, overflow="ignore")
        for name, count in shown
    ]
    if len(answer.files) > len(shown):
        lines.append(Text(f"{indent}{len(answer.files) - len(shown)} more", style="dim"))
    return lines


def size(count: int) -> str:
    """``512 B``, ``1.5 kB``, ``2.3 GB``."""
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} B"


def printable(text: str) -> str:
    """File names may hold bytes that are no text, and characters that steer a terminal."""
    text = text.encode("utf-8", "replace").decode()
    return "".join(char if char.isprintable() else "?" for char in text)
