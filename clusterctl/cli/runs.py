"""`clusterctl runs`, `status` and `stop`: what has run, how it stands, and an end to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from clusterctl.cli import options

if TYPE_CHECKING:
    from clusterctl.report.runs import RunView
    from clusterctl.store.outcome import Outcome
    from clusterctl.store.runs import RunDirectory

Run = Annotated[
    str, typer.Argument(metavar="[RUN]", help="A run, or a beginning of its id. Default: the newest.")
]
_POLL = 0.2
_INTERRUPTED = 130


def list_command(as_json: options.Json = False) -> None:
    """List runs, newest last."""
    import time

    import msgspec

    from clusterctl.cli import screen
    from clusterctl.errors import ClusterctlError
    from clusterctl.report import runs as page
    from clusterctl.store.runs import all_runs

    views = []
    for directory in all_runs():
        try:
            views.append(_view(directory))
        except ClusterctlError as error:  # one damaged run must not hide the others
            screen.complain("warning", error.message, error.hint)
    if as_json:
        typer.echo(msgspec.json.encode(views).decode())
    elif not views:
        screen.out().print("no runs yet; start one: clusterctl launch --nodes 2")
    else:
        screen.out().print(page.table(views, now=time.time(), width=screen.out().width), soft_wrap=False)


def _view(directory: RunDirectory) -> RunView:
    from clusterctl.report.runs import view

    return view(
        directory.plan(),
        directory.outcome(),
        started=directory.started(),
        supervised=directory.supervised(),
    )


def status_command(run: Run = "", as_json: options.Json = False) -> None:
    """How a run stands, host by host."""
    import time

    import msgspec
    from rich.text import Text

    from clusterctl.cli import screen
    from clusterctl.cli.ending import closing
    from clusterctl.report import runs as page
    from clusterctl.store.runs import find_run

    directory = find_run(run or None)
    plan, outcome, seen = directory.plan(), directory.outcome(), _view(directory)
    hosts = page.hosts_of(plan, directory.events(), outcome)
    if as_json:
        document = {"run": seen, "hosts": hosts, "logs": str(directory.logs), "outcome": outcome}
        typer.echo(msgspec.json.encode(document).decode())
        return
    out = screen.out()
    text = page.status(seen, hosts, outcome, now=time.time(), controller=directory.controller())
    out.print(text, soft_wrap=False, crop=False)
    if outcome is not None:
        screen.show(closing(directory, outcome, only_how=True))
    else:
        out.print(Text.assemble(("logs  ", "dim"), str(directory.logs)))
    out.print(page.next_steps(seen, outcome), soft_wrap=False, crop=False)


def stop_command(
    run: Run = "",
    now: Annotated[bool, typer.Option("--now", help="KILL at once; scripts get no time to save.")] = False,
) -> int:
    """Stop a run on all hosts; scripts get 30 s to save.

    Works too when the run's own controller is dead: then this command goes to the hosts itself. The exit code
    is 125 when something could not be stopped, or nobody could tell.
    """
    import time

    from clusterctl.cli import screen
    from clusterctl.cli.ending import closing
    from clusterctl.report import runs as page
    from clusterctl.store.runs import find_run

    directory = find_run(run or None)
    plan = directory.plan()
    outcome = directory.outcome()
    if outcome is not None:
        screen.out().print(page.over_already(_view(directory), outcome, now=time.time()))
        return 0
    try:
        if directory.supervised():
            directory.ask_to_stop(now=now)
            outcome = _wait(directory, now=now)
        if outcome is None:
            outcome = _take_over(directory, now=now)
    except KeyboardInterrupt:
        if directory.supervised():
            screen.err().print(f"left; its controller stops it: clusterctl status {plan.run}")
        else:
            screen.err().print(f"left before every host was done; once more: clusterctl stop {plan.run}")
        return _INTERRUPTED
    screen.show(closing(directory, outcome))
    proved = [outcome.left_behind.get(node.host) for node in plan.nodes]
    return 0 if all(left == 0 for left in proved) else 125


def _wait(directory: RunDirectory, *, now: bool) -> Outcome | None:
    """The outcome that the supervising process writes; None when it dies before, or is on another machine
    and gives no sign."""
    import time

    from clusterctl.cli import screen
    from clusterctl.settings import RUN

    elsewhere = directory.controller()
    patience = RUN.stop_grace + RUN.lease_attached if elsewhere else float("inf")
    grace = "at once" if now else f"scripts get {RUN.stop_grace:g} s to save, --now ends them at once"
    text = f"stopping run {directory.run}: {grace}"
    if elsewhere:
        text += f" (supervised from {elsewhere})"
    if not screen.err().is_terminal:
        screen.err().print(text, style="dim")
    begun = time.monotonic()
    with screen.err().status(f"{text}; Ctrl-C leaves, the stop goes on"):
        while directory.supervised() and time.monotonic() - begun < patience:
            if (outcome := directory.outcome()) is not None:
                return outcome
            time.sleep(_POLL)
    return directory.outcome()


def _take_over(directory: RunDirectory, *, now: bool) -> Outcome:
    from clusterctl.cli import screen
    from clusterctl.run.screen import Screen
    from clusterctl.session.run import take_over

    class Told(Screen):
        def say(self, text: str) -> None:
            screen.err().print(text, style="dim", markup=False)

    screen.err().print("the run's controller is dead: going to the hosts", style="dim")
    directory.ask_to_stop(now=now)
    return take_over(directory, Told())
