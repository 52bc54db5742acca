"""`clusterctl runs`, `status` and `stop`: what has run, how it stands, and an end to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from clusterctl.cli import options

if TYPE_CHECKING:
    from clusterctl.report.runs import RunView
    from clusterctl.run.outcome import Outcome
    from clusterctl.store.runs import RunDirectory

Run = Annotated[
    str, typer.Argument(metavar="[RUN]", help="A run, or a beginning of its id. Default: the newest.")
]
_POLL = 0.2


def list_command(as_json: options.Json = False) -> None:
    """List runs, newest last."""
    import time

    import msgspec

    from clusterctl.cli import screen
    from clusterctl.report import runs as page
    from clusterctl.store.runs import all_runs

    views = [_view(directory) for directory in all_runs()]
    if as_json:
        typer.echo(msgspec.json.encode(views).decode())
    elif not views:
        screen.out().print("no runs yet: clusterctl launch --nodes 2")
    else:
        screen.out().print(page.table(views, now=time.time(), width=screen.out().width), soft_wrap=False)


def _view(directory: RunDirectory) -> RunView:
    from clusterctl.report.runs import view

    return view(
        directory.plan(),
        directory.outcome(),
        started=(directory.path / "plan.json").stat().st_mtime,
        supervised=directory.supervised(),
    )


def status_command(run: Run = "", as_json: options.Json = False) -> None:
    """How a run stands, host by host."""
    import time

    import msgspec

    from clusterctl.cli import screen
    from clusterctl.report import launch as launch_page
    from clusterctl.report import runs as page
    from clusterctl.store.runs import find_run

    directory = find_run(run or None)
    plan, outcome, seen = directory.plan(), directory.outcome(), _view(directory)
    hosts = page.hosts_of(plan, directory.events())
    if as_json:
        typer.echo(msgspec.json.encode({"run": seen, "hosts": hosts, "outcome": outcome}).decode())
        return
    out = screen.out()
    out.print(f"run {plan.run}: [bold]{seen.status}[/]")
    out.print(page.host_table(hosts, now=time.time()), soft_wrap=False)
    places = dict.fromkeys(host.outputs for host in hosts if host.outputs)
    for place in places:
        out.print(f"outputs {place}", style="dim")
    if outcome is not None:
        out.print(launch_page.closing(plan, outcome, directory.path), soft_wrap=False, crop=False)
        return
    out.print(f"logs    {directory.logs}", style="dim")
    if seen.status == "running":
        out.print(f"next: clusterctl logs -f {plan.run}, clusterctl stop {plan.run}")
    else:
        out.print(
            "its controller died before the end; each host ends its own ranks when the lease runs out\n"
            f"next: clusterctl stop {plan.run}"
        )


def stop_command(
    run: Run = "",
    now: Annotated[bool, typer.Option("--now", help="KILL at once; scripts get no time to save.")] = False,
) -> int:
    """Stop a run on all hosts; scripts get 30 s to save.

    Works too when the run's own controller is dead: then this command goes to the hosts itself.
    """
    from clusterctl.cli import screen
    from clusterctl.report import launch as launch_page
    from clusterctl.store.runs import find_run

    directory = find_run(run or None)
    plan = directory.plan()
    outcome = directory.outcome()
    if outcome is not None:
        screen.out().print(f"run {plan.run} is over already: {outcome.status}")
        return 0
    if directory.supervised():
        directory.ask_to_stop(now=now)
        outcome = _wait(directory)
    if outcome is None:
        screen.err().print("its controller is dead: going to the hosts", style="dim")
        outcome = _take_over(directory, now=now)
    screen.out().print(launch_page.closing(plan, outcome, directory.path), soft_wrap=False, crop=False)
    return 0 if outcome.status == "stopped" and set(outcome.left_behind.values()) == {0} else 125


def _wait(directory: RunDirectory) -> Outcome | None:
    """The outcome that the supervising process writes; None when it dies before."""
    import time

    while directory.supervised():
        if (outcome := directory.outcome()) is not None:
            return outcome
        time.sleep(_POLL)
    return directory.outcome()


def _take_over(directory: RunDirectory, *, now: bool) -> Outcome:
    import getpass
    from pathlib import Path

    from clusterctl.run.supervise import Screen, Supervisor
    from clusterctl.transport import connect

    plan = directory.plan()
    directory.ask_to_stop(now=now)
    link = connect(plan.transport, Path(plan.ssh_config) if plan.ssh_config else None)
    try:
        supervisor = Supervisor(
            plan, None, link, directory, clock_offsets={}, owner=getpass.getuser(), screen=Screen()
        )
        return supervisor.take_over()
    finally:
        link.close()
