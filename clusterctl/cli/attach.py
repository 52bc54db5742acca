"""`clusterctl attach`: a run as its launch would show it, to its end, whoever supervises it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from clusterctl.cli.runs import Run

if TYPE_CHECKING:
    from collections.abc import Callable

    from clusterctl.session.succession import Succession
    from clusterctl.store.outcome import Outcome
    from clusterctl.store.runs import RunDirectory

_LOOK = 0.2
_INTERRUPTED = 130
_NOBODY = 125


def command(
    run: Run = "",
    tail: Annotated[
        int | None,
        typer.Option(
            "--tail", metavar="N", min=0, help="Of what was printed so far, the last N lines of each log."
        ),
    ] = None,
    watch_only: Annotated[
        bool, typer.Option("--watch-only", help="Do not supervise it, also when nobody else does.")
    ] = False,
) -> int:
    """Show a run as its launch does, from what was printed so far to its end.

    When the run's controller is dead, a new one is begun, in the background: it supervises the run from here
    on. Ctrl-C ends the watching, never the run. The exit code is the run's.
    """
    from clusterctl.cli import screen
    from clusterctl.cli.ending import closing
    from clusterctl.cli.terminal import Terminal, gone
    from clusterctl.errors import ClusterctlError
    from clusterctl.report import detached as page
    from clusterctl.report import launch
    from clusterctl.session.succession import Succession
    from clusterctl.session.watching import Watching
    from clusterctl.store.runs import find_run

    directory = find_run(run or None)
    plan = directory.plan()
    terminal = Terminal(1, patient=True)
    terminal.put(screen.rendered(launch.opening(plan, screen.at_home(directory.path))), keep=True)
    live = screen.live(plan, terminal)
    watching = Watching(directory, plan, live, tail=tail)

    def look() -> bool:
        watching.look()
        return terminal.lost is None

    try:
        succession = None if watch_only else Succession(directory, live.say)
        outcome = _to_the_end(directory, look, succession)
    except KeyboardInterrupt:
        live.flush()
        terminal.close(screen.rendered(page.left(plan.run)))
        return _INTERRUPTED
    live.flush()
    if terminal.lost is not None:
        if gone(terminal.lost):
            return _INTERRUPTED
        raise ClusterctlError(f"stdout cannot be written: {terminal.lost.strerror}", hint=f"{directory.logs}")
    if outcome is None:
        terminal.close(screen.rendered(page.alone(plan.run)))
        return _NOBODY
    screen.farewell(terminal, closing(directory, outcome))
    screen.ring(plan)
    return outcome.exit_code


def _to_the_end(
    directory: RunDirectory, look: Callable[[], bool], succession: Succession | None
) -> Outcome | None:
    """``look`` shows what is new, and is false once nobody sees it. None when the run goes on."""
    import time

    from clusterctl.cli import interrupts

    while True:
        if interrupts.pressed():
            raise KeyboardInterrupt
        alive = directory.supervised()
        outcome = directory.outcome()  # in this order: its last act is to write that
        seen = look()
        if outcome is not None:
            return outcome
        if not seen or (succession is None and not alive):
            return None
        if succession is not None:
            succession.see_to_it()
        time.sleep(_LOOK)
