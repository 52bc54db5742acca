"""`clusterctl stop`: an end to a run, whoever supervises it, and whether or not that one still can."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from clusterctl.cli.runs import Run

if TYPE_CHECKING:
    from clusterctl.store.claims import Claim
    from clusterctl.store.outcome import Outcome
    from clusterctl.store.runs import RunDirectory

_POLL = 0.2
_STILL = 10.0
_INTERRUPTED = 130


def command(
    run: Run = "",
    now: Annotated[bool, typer.Option("--now", help="KILL at once; scripts get no time to save.")] = False,
) -> int:
    """Stop a run on all hosts; scripts get 30 s to save.

    Without RUN: the one that runs, else the newest. Works too when the run's own controller is dead, is
    suspended or does not answer: then this command goes to the hosts itself. The exit code is 125 when
    something could not be stopped, or nobody could tell.
    """
    import time

    from clusterctl.cli import screen
    from clusterctl.cli.ending import closing
    from clusterctl.report import runs as page
    from clusterctl.session.ending import conclude
    from clusterctl.session.runs import view_of
    from clusterctl.store.runs import find_run

    directory = find_run(run or None, sole=True)
    plan = directory.plan()
    outcome = directory.outcome()
    if outcome is not None:
        screen.out().print(page.over_already(view_of(directory), outcome, now=time.time()))
        return 0
    try:
        outcome = _end(directory, now=now)
    except KeyboardInterrupt:
        if _others(directory.supervisor()):
            screen.err().print(f"left; its controller stops it: clusterctl status {plan.run}")
        else:
            screen.err().print(f"left before every host was done; once more: clusterctl stop {plan.run}")
        return _INTERRUPTED
    screen.show(closing(directory, outcome))
    if not _others(directory.held()):  # nobody else sees to it
        conclude(plan, directory, outcome, lambda text: screen.err().print(text, style="dim"))
    proved = [outcome.left_behind.get(node.host) for node in plan.nodes]
    return 0 if all(left == 0 for left in proved) else 125


def _others(claim: Claim | None) -> bool:
    import os

    return claim is not None and claim.pid != os.getpid()


def _end(directory: RunDirectory, *, now: bool) -> Outcome:
    """Have the run's supervisor end it; without one, or when it gives no sign, become that."""
    stuck: Claim | None = None
    while True:
        held = directory.supervisor()
        if held is not None and held != stuck:
            directory.ask_to_stop(now=now)
            outcome = _wait(directory, held, now=now)
            if outcome is not None:
                return outcome
            stuck = held
        elif directory.take_claim("stop", instead_of=stuck) is None:
            # It may have come to its end while nobody looked.
            return directory.outcome() or _take_over(directory, stuck, now=now)


def _wait(directory: RunDirectory, held: Claim, *, now: bool) -> Outcome | None:
    """The outcome that the process ``held`` writes; None when it dies before, or gives no sign in time."""
    import time

    from clusterctl.cli import screen
    from clusterctl.session.watching import Ends
    from clusterctl.settings import RUN
    from clusterctl.store.claims import is_suspended, wake

    elsewhere = directory.controller()
    grace = "at once" if now else f"scripts get {RUN.stop_grace:g} s to save, --now ends them at once"
    text = f"stopping run {directory.run}: {grace}"
    if elsewhere:
        text += f" (supervised from {elsewhere})"
    elif held.verb == "stop":
        text = f"run {directory.run} is being stopped already, by process {held.pid}: waiting for that"
    if wake(held):
        text += f"; launch (process {held.pid}) was suspended and has been woken for it"
    screen.err().print(text, style="dim")
    timeout = (0.0 if now else RUN.stop_grace) + RUN.confirm_timeout + RUN.log_timeout
    heard = directory.size()
    moved = time.monotonic()
    deadline = moved + timeout
    ends, read = Ends(directory.plan()), 0
    leave = "Ctrl-C leaves, the stop goes on"
    with screen.err().status(leave) as line:
        while directory.supervisor() == held and time.monotonic() < moved + _STILL:
            if (outcome := directory.outcome()) is not None:
                return outcome
            events, read = directory.events_from(read)
            for event in events:
                ends.take(event)
            if ends.awaited:
                line.update(f"{ends.awaited}; {leave}")
            if not is_suspended(held):
                moved = time.monotonic()
            if time.monotonic() > deadline:
                if directory.size() == heard:
                    break
                # Events and logs still arrive: it is at work.
                heard, deadline = directory.size(), time.monotonic() + timeout
            time.sleep(_POLL)
    return directory.outcome()


def _take_over(directory: RunDirectory, stuck: Claim | None, *, now: bool) -> Outcome:
    from clusterctl.cli import screen
    from clusterctl.run.display import Display
    from clusterctl.session.run import take_over

    why = "is dead" if stuck is None else f"(process {stuck.pid}) does not end it"
    screen.err().print(f"the run's controller {why}: going to the hosts", style="dim")
    directory.ask_to_stop(now=now)
    with screen.err().status("asking the hosts") as line:

        class Told(Display):
            def say(self, text: str) -> None:
                screen.err().print(text, style="dim", markup=False)

            def ending(self, text: str) -> None:
                line.update(text)

        return take_over(directory, Told())
