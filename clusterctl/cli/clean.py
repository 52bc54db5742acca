"""`clusterctl clean`: old runs go, here and on their hosts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from clusterctl.cli import options

if TYPE_CHECKING:
    from clusterctl.session.clean import Cleaning
    from clusterctl.store.runs import RunDirectory


def command(
    runs: Annotated[
        list[str] | None, typer.Argument(metavar="[RUN]...", help="Runs, or beginnings of their ids.")
    ] = None,
    older_than: Annotated[
        str, typer.Option("--older-than", metavar="TIME", help="All that started before: 12h, 7d.")
    ] = "",
    outputs: Annotated[
        bool, typer.Option("--outputs", help="Also outputs on hosts that were never pulled.")
    ] = False,
    here_only: Annotated[
        bool, typer.Option("--here-only", help="Ask no host, for those that are gone: what lies there stays.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
) -> int:
    """Remove runs that are over: logs here, and on their hosts copies, and snapshots of code no run needs.

    A run that goes on is never removed. One whose outputs on a host were never pulled stays, here and there,
    and is named, unless --outputs is given. The exit code is 1 when a host gave no answer or something could
    not be removed: then the run stays here too, to be cleaned later.
    """
    from clusterctl.cli import screen
    from clusterctl.cli.progress import Asking
    from clusterctl.session.clean import clean

    chosen = _chosen(runs or [], older_than)
    if not chosen:
        screen.out().print("nothing to clean")
        return 0
    found = clean(chosen, take_outputs=outputs, here_only=here_only, dry_run=dry_run, progress=Asking)
    _show(found, dry_run=dry_run)
    return 0 if found.complete else 1


def _chosen(names: list[str], older_than: str) -> list[RunDirectory]:
    import contextlib
    import time

    from clusterctl.errors import UsageError
    from clusterctl.store.runs import all_runs, find_run

    if bool(names) == bool(older_than):
        raise UsageError(
            "clean needs runs or an age, not both" if names else "clean needs to be told what",
            hint="clusterctl clean --older-than 7d --dry-run, or name RUN...",
        )
    if names:
        return list({run.run: run for run in map(find_run, names)}.values())
    newest = time.time() - options.seconds(older_than, "--older-than")
    old = []
    for run in all_runs():
        with contextlib.suppress(FileNotFoundError):  # removed meanwhile
            if run.started() < newest:
                old.append(run)
    return old


def _show(found: Cleaning, *, dry_run: bool) -> None:
    from clusterctl.cli import screen
    from clusterctl.report import clean as page

    out = screen.out()
    for run in found.runs:
        if run.kept:
            out.print(page.kept(run.run, run.kept, run.hosts, run.reason))
    for host in found.hosts:
        if host.problem:
            screen.complain("warning", f"{host.host}: {host.problem}")
        else:
            gone = sum(each.what == "removed" for each in host.runs)
            text = page.freed(host.host, gone, host.snapshots, host.freed, dry_run=dry_run)
            out.print(text, markup=False)
    removed = [run for run in found.runs if not run.kept]
    total = sum(run.freed for run in removed)
    out.print(page.freed("here", len(removed), 0, total, dry_run=dry_run), markup=False)
