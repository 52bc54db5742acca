"""The end of a run as its directory tells it: what `launch`, `status` and `stop` show last."""

from __future__ import annotations

from collections import deque
from pathlib import Path

from rich.console import RenderableType

from clusterctl.advise.explain import is_telling
from clusterctl.cli import screen
from clusterctl.plan.model import LaunchPlan
from clusterctl.report import ending as page
from clusterctl.report.harmless import plain_lines
from clusterctl.session.why import why
from clusterctl.store.outcome import Outcome
from clusterctl.store.runs import RunDirectory

_QUOTED = 8
_READ = 16 << 10


def closing(
    directory: RunDirectory, outcome: Outcome, *, plan: LaunchPlan | None = None, only_how: bool = False
) -> RenderableType:
    """``only_how``: without files and next steps, where something else on the screen tells them. ``plan``:
    where the caller has it, the end of a run is told though nothing here can be read any more."""
    plan = plan or directory.plan()
    last: tuple[str, ...] = ()
    if outcome.cause is not None and page.wants_last_lines(outcome):
        last = last_lines(directory.path / outcome.cause.log)
    places = None if only_how else _places(directory)
    found = why(directory, plan=plan, outcome=outcome, brief=True)
    return page.closing(
        plan, outcome, screen.at_home(directory.path), last_lines=last, places=places, found=found
    )


def _places(directory: RunDirectory) -> dict[str, str]:
    started = (event for event in directory.attempt_events() if event["event"] == "started")
    return {str(event.get("host")): str(event.get("cwd")) for event in started}


def last_lines(log: Path) -> tuple[str, ...]:
    """The last lines of a log that say something; none where it cannot be read."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, stream.seek(0, 2) - _READ))
            data = stream.read()
    except OSError:
        return ()
    found: deque[str] = deque(maxlen=_QUOTED)
    for line in plain_lines(data, colours=False).splitlines():
        if is_telling(line):
            found.append(line.rstrip())
    return tuple(found)
