"""What is said of a run that goes on without a terminal. No I/O."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

_ATTACH = "watch it, to its end"
_STOP = "end it on all hosts"


def up(run: str) -> RenderableType:
    """Every rank has started, and the launch returns."""
    title = Text.assemble(("✓ ", "bold green"), ("up", "bold"), f": run {run} goes on without this terminal")
    logs = (f"clusterctl logs -f {run}", "its output alone")
    return _page(title, (f"clusterctl attach {run}", _ATTACH), logs, (f"clusterctl stop {run}", _STOP))


def left(run: str) -> RenderableType:
    """Somebody has stopped watching."""
    title = Text(f"left; run {run} goes on")
    return _page(title, (f"clusterctl stop {run}", _STOP), (f"clusterctl attach {run}", _ATTACH))


def alone(run: str) -> RenderableType:
    """Nobody supervises it, and whoever watches was not to either."""
    title = Text(f"nobody supervises run {run} any more", "yellow")
    lines = ((f"clusterctl attach {run}", "supervise it again"), (f"clusterctl stop {run}", _STOP))
    return _page(title, *lines)


def _page(title: Text, *lines: tuple[str, str]) -> RenderableType:
    widest = max(len(command) for command, _ in lines)
    return Group(
        Text(),
        title,
        *(
            Text.assemble(
                ("next  " if number == 0 else " " * 6, "dim"),
                (command.ljust(widest), "cyan"),
                (f"  {what}", "dim"),
                no_wrap=True,
                overflow="ignore",
            )
            for number, (command, what) in enumerate(lines)
        ),
    )
