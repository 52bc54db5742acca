"""`clusterctl runs` and `status`: what has run, and how it stands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from clusterctl.cli import options

if TYPE_CHECKING:
    from clusterctl.report.run_view import RunView

Run = Annotated[
    str,
    typer.Argument(
        metavar="[RUN]",
        help="A run, or a beginning of its id. Default: the newest that runs, else the newest.",
    ),
]
_SHOWN = 20


def list_command(
    status: Annotated[
        list[str] | None,
        typer.Option("--status", metavar="STATUS", help="Only these: running, failed, ... Repeatable."),
    ] = None,
    since: Annotated[
        str, typer.Option("--since", metavar="TIME", help="Only those started in the last 30m, 12h, 2d.")
    ] = "",
    limit: Annotated[
        int | None,
        typer.Option("--limit", metavar="N", min=1, help=f"Only the newest N. Default: {_SHOWN}, JSON all."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="However many there are.")] = False,
    as_json: options.Json = False,
) -> None:
    """List runs, newest last. Ids begin with the time in UTC; `started` is local time."""
    import time

    import msgspec

    from clusterctl.cli import screen
    from clusterctl.report import runs as page
    from clusterctl.store.runs import START_ONE

    wanted = frozenset(status or ())
    _require_known(wanted)
    oldest = time.time() - options.seconds(since, "--since") if since else 0.0
    found = [run for run in _views() if run.started >= oldest and (not wanted or run.status in wanted)]
    shown = found if everything else found[-(limit or (len(found) if as_json else _SHOWN)) :]
    if as_json:
        typer.echo(msgspec.json.encode(shown).decode())
        return
    out = screen.out()
    if not found:
        filtered = bool(wanted or since)
        out.print("no such runs; all of them: clusterctl runs" if filtered else f"no runs yet: {START_ONE}")
        return
    if len(shown) < len(found):
        out.print(f"… {len(found) - len(shown)} older: --all", style="dim")
    out.print(page.table(shown, width=out.width), soft_wrap=False)


def _require_known(wanted: frozenset[str]) -> None:
    from clusterctl.errors import UsageError
    from clusterctl.report.run_view import STATUSES

    unknown = sorted(wanted - set(STATUSES))
    if unknown:
        raise UsageError(
            f"--status {unknown[0]}: there is no such status", hint=f"one of {', '.join(STATUSES)}"
        )


def _views() -> list[RunView]:
    """Of all runs that can be read; one that cannot is a warning, and hides no other."""
    from clusterctl.cli import screen
    from clusterctl.errors import ClusterctlError
    from clusterctl.session.runs import view_of
    from clusterctl.store.runs import all_runs

    views = []
    for directory in all_runs():
        try:
            views.append(view_of(directory))
        except ClusterctlError as error:
            screen.complain("warning", error.message)
        except FileNotFoundError:  # removed meanwhile
            continue
    return views


def status_command(run: Run = "", as_json: options.Json = False) -> None:
    """How a run stands, host by host."""
    import time

    import msgspec
    from rich.text import Text

    from clusterctl.cli import screen
    from clusterctl.cli.ending import closing
    from clusterctl.report import runs as page
    from clusterctl.report.pace import pace
    from clusterctl.report.run_view import hosts_of
    from clusterctl.session.runs import view_of
    from clusterctl.session.why import current_warnings, seems_to_hang
    from clusterctl.store.metrics import newest_steps
    from clusterctl.store.runs import find_run

    directory = find_run(run or None)
    plan, outcome, seen = directory.plan(), directory.outcome(), view_of(directory)
    printed = {node.host: directory.printed(node.host) for node in plan.nodes}
    hosts = hosts_of(plan, directory.attempt_events(), outcome, printed=printed)
    warnings = current_warnings(directory) if outcome is None else []
    looked = seems_to_hang(directory, plan) if outcome is None else None
    come = pace(newest_steps(directory.path))
    if as_json:
        document = {"run": seen, "hosts": hosts, "pace": come, "warnings": warnings, "hang": looked}
        document |= {"logs": str(directory.logs), "outcome": outcome}
        typer.echo(msgspec.json.encode(document).decode())
        return
    out = screen.out()
    controller = directory.controller()
    text = page.status(
        seen,
        hosts,
        outcome,
        now=time.time(),
        controller=controller,
        warnings=warnings,
        pace=come,
        looked=looked,
    )
    out.print(text, soft_wrap=False, crop=False)
    if outcome is not None:
        screen.show(closing(directory, outcome, only_how=True))
    else:
        out.print(Text.assemble(("logs  ", "dim"), str(screen.at_home(directory.logs))))
    pull = page.what_pull_does(plan, [host.outputs for host in hosts if host.outputs])
    out.print(page.next_steps(seen, outcome, pull=pull, looked=looked), soft_wrap=False, crop=False)
