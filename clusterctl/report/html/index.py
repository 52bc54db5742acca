"""The list of the runs of a machine. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

import msgspec
from markupsafe import Markup

from clusterctl.report.attempts import duration
from clusterctl.report.findings import brief
from clusterctl.report.html.axis import written
from clusterctl.report.html.pages import parts
from clusterctl.report.pace import Pace, no_number
from clusterctl.report.run_view import RunRow, RunView

RUN_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,99}")
"""Names of directories that have a page: what is not one of them is nothing that `launch` made."""
_COLOURS = {"succeeded": "good", "running": "now"} | dict.fromkeys(("failed", "lost", "hung", "error"), "bad")


class Line(msgspec.Struct, frozen=True):
    """A run in words."""

    name: str
    linked: bool
    status: str
    colour: str
    about: str
    progress: str = ""
    slowest: str = ""
    no_number: str = ""
    command: str = ""
    cause: str = ""


def list_parts(rows: Sequence[RunRow], older: int) -> dict[str, Markup]:
    """``rows`` in the order in which they are shown; ``older``: how many more there are."""
    return parts("index_parts.html", lines=[_line(row) for row in rows], older=older)


def _line(row: RunRow) -> Line:
    linked = RUN_ID.fullmatch(row.name) is not None
    if row.view is None:
        return Line(row.name, False, "cannot be read", "bad", "", cause=row.problem)
    return Line(
        row.name,
        linked,
        row.view.status,
        _COLOURS.get(row.view.status, "odd"),
        about=_about(row.view, row.hosts),
        progress=_progress(row.pace) if row.pace else "",
        slowest=_slowest(row.pace) if row.pace else "",
        no_number=no_number(row.pace),
        command=row.view.command,
        cause=" ".join(row.view.cause.split()),
    )


def _about(view: RunView, hosts: Sequence[str]) -> str:
    told = [f"since {datetime.fromtimestamp(view.started):%Y-%m-%d %H:%M}"]
    if view.seconds is not None:
        told = [f"{datetime.fromtimestamp(view.started):%Y-%m-%d %H:%M}, took {duration(view.seconds)}"]
    told.append(f"{view.ranks} rank{'s' * (view.ranks != 1)} on {brief(hosts)}")
    if view.attempt > 1:
        told.append(f"attempt {view.attempt}")
    return ", ".join(told)


def _progress(pace: Pace) -> str:
    told = [f"step {pace.step}"]
    if pace.loss is not None:
        told.append(f"loss {pace.loss:.4g}")
    if pace.steps_per_s is not None:
        told.append(f"{pace.steps_per_s:.3g} steps/s")
    if pace.tokens_per_s is not None:
        told.append(written(pace.tokens_per_s, "tokens/s"))
    return ", ".join(told)


def _slowest(pace: Pace) -> str:
    if pace.slow_rank is None or pace.slow_s is None or pace.others_s is None:
        return ""
    return (
        f"slowest: rank {pace.slow_rank} on {pace.slow_host}, {written(pace.slow_s, 's')} a step, "
        f"the others {written(pace.others_s, 's')}"
    )
