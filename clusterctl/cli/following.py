"""A run that has been launched here: shown to its end, or, without a terminal, until it is up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clusterctl.session.launch import Prepared
    from clusterctl.session.run import Run

_LOOK = 0.1


def follow(run: Run) -> int:
    """Start it and show it to its end. Signals that end a program stop the run on all hosts."""
    import signal

    import msgspec

    from clusterctl.cli import screen
    from clusterctl.cli.ending import closing
    from clusterctl.cli.interrupts import pressed, settle_exit_code
    from clusterctl.cli.progress import Asking
    from clusterctl.cli.terminal import Terminal
    from clusterctl.report import ending
    from clusterctl.report import launch as page
    from clusterctl.store.runs import RunDirectory

    _load_what_the_end_needs(run)
    terminal = Terminal(1)
    terminal.put(screen.rendered(page.opening(run.plan, screen.at_home(run.path))), keep=True)
    live = screen.live(run.plan, terminal)

    outlives = run.plan.on_disconnect == "continue"

    def ask(number: int, _: object) -> None:
        run.leave(number) if number == signal.SIGTERM else run.interrupt(number)

    if pressed():  # while all that was loaded
        raise KeyboardInterrupt
    previous: dict[signal.Signals, Any] = {
        number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)
    }
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as nohup leaves it
        previous[signal.SIGHUP] = signal.signal(signal.SIGHUP, signal.SIG_IGN if outlives else ask)
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        previous[number] = signal.signal(number, lambda number, _: run.hand_on(number))
    try:
        run.start(live)
        outcome = run.wait()
        live.flush()
        if run.disk_answers:
            last = closing(RunDirectory(run.path), outcome, plan=run.plan)
        else:
            last = ending.closing(run.plan, outcome, run.path)
        screen.farewell(terminal, last)
        screen.ring(run.plan)
        if run.unwritten:
            hint = f"it follows, as JSON; once the disk can, clusterctl stop {run.id} brings it and the logs"
            screen.complain("error", f"the outcome cannot be kept: {run.unwritten}", hint)
            screen.err().print(msgspec.json.encode(outcome).decode(), soft_wrap=True, markup=False)
        settle_exit_code(outcome.exit_code, previous[signal.SIGINT])
        signal.signal(signal.SIGINT, previous[signal.SIGINT])  # it waits no longer for --on-end
        with Asking((), "carrying out --on-end" if run.plan.on_end else "writing the report"):
            while not run.settle(_LOOK) or run.on_end_said:
                while run.on_end_said:
                    screen.complain("warning", run.on_end_said.popleft())
        for number in set(previous) - {signal.SIGINT}:  # nothing is left to end or to hand on
            previous[number] = signal.SIG_IGN
        return outcome.exit_code
    finally:  # not before all is said: one Ctrl-C too many must not cut the outcome off
        for number, handler in previous.items():
            signal.signal(number, handler)


def detach(prepared: Prepared) -> int:
    """Have a process of its own start it, and look on until every rank is up. Until then Ctrl-C ends the run;
    a terminal that is closed ends the looking on."""
    import signal

    from clusterctl.cli import screen
    from clusterctl.cli.ending import closing
    from clusterctl.cli.interrupts import pressed
    from clusterctl.cli.terminal import Terminal
    from clusterctl.errors import ClusterctlError
    from clusterctl.report import detached
    from clusterctl.report import launch as page
    from clusterctl.session.controller import Awaiting, Broke, Over, Up
    from clusterctl.session.detached import DetachedRun
    from clusterctl.session.watching import Watching
    from clusterctl.store.runs import RunDirectory

    if pressed():
        raise KeyboardInterrupt
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    run = DetachedRun.create(prepared)
    directory = RunDirectory(run.path)
    terminal = Terminal(1)
    terminal.put(screen.rendered(page.opening(run.plan, screen.at_home(run.path))), keep=True)
    live = screen.live(run.plan, terminal)
    controller = run.start(prepared)
    previous = {
        number: signal.signal(number, lambda number, _: controller.interrupt(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    watching = Watching(directory, run.plan, live)
    try:
        while True:
            news = controller.news(_LOOK)
            watching.look()
            match news:
                case Awaiting(text):
                    live.awaiting(text)
                case Up():
                    live.flush()
                    screen.farewell(terminal, detached.up(run.id))
                    return 0
                case Over(outcome, unwritten):
                    live.flush()
                    screen.farewell(terminal, closing(directory, outcome, plan=run.plan))
                    if unwritten:
                        screen.complain("error", f"the outcome cannot be kept: {unwritten}")
                    return outcome.exit_code
                case Broke(message, hint):
                    terminal.close()
                    raise ClusterctlError(message, hint=hint)
            if controller.ended:
                terminal.close()
                raise ClusterctlError(
                    f"the controller of run {run.id} ended before its ranks were up",
                    hint=f"{run.path}/controller.log; clusterctl stop {run.id} ends what has started",
                )
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _load_what_the_end_needs(run: Run) -> None:
    """Show an end to nobody: by then this machine may have no descriptors for modules and tables any more."""
    import clusterctl.cli.fault  # noqa: F401
    from clusterctl.cli import screen
    from clusterctl.report import ending
    from clusterctl.store.outcome import Cause, Outcome

    cause = Cause(kind="exit", message="no end yet")
    trial = Outcome(run=run.id, status="failed", exit_code=1, cause=cause, seconds=0.0, left_behind={})
    screen.rendered(ending.closing(run.plan, trial, run.path, last_lines=["none yet"], places={}))
