"""`clusterctl report`: a run as one page, or several laid over one another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clusterctl.cli import new_file
from clusterctl.errors import ClusterctlError

_READING = "reading what became of it"
_OVERLAY = "runs.html"


def command(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN]...",
            help="Runs, or beginnings of their ids. Default: the newest. Of several: one page.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="Where to. Default: report.html in the run's directory; for several runs, ./runs.html.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it is there.")] = False,
) -> None:
    """Write a page of what became of a run: its cause, curves, hosts, events and plan in one file.

    It loads nothing and runs nothing, so it can be mailed. `launch` writes it by itself when a run is over.
    """
    from clusterctl.cli import screen
    from clusterctl.session.report import PAGE, page_of
    from clusterctl.store.runs import find_run

    names: list[str | None] = list(runs) if runs else [None]
    directories = list({found.run: found for found in map(find_run, names)}.values())
    if output is None and len(directories) == 1:
        directory = directories[0]
        with screen.err().status(_READING):
            page = page_of(directories).encode()
        try:
            directory.write_bytes(PAGE, page)
        except OSError as error:
            raise ClusterctlError(
                f"{directory.path / PAGE} cannot be written: {error.strerror}",
                hint="-o FILE puts it elsewhere",
            ) from error
        screen.show(str(screen.at_home(directory.path / PAGE)))
        return
    target = output or Path(_OVERLAY)
    new_file.check(target, "-o", force=force)
    with screen.err().status(_READING):
        text = page_of(directories)
    new_file.write(target, text, "-o", force=force)
    screen.show(str(target))
