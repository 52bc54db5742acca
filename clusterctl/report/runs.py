"""Runs as tables: the list, and one run host by host. No I/O; ``now`` is an argument."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from rich import box
from rich.table import Table
from rich.text import Text

from clusterctl.plan.model import LaunchPlan
from clusterctl.run.outcome import Outcome

_WIDE = 110
_STYLES = {
    "succeeded": "green",
    "running": "cyan",
    "failed": "red",
    "lost": "red",
    "error": "red",
    "interrupted": "yellow",
}


class RunView(msgspec.Struct, frozen=True, kw_only=True):
    """One run for a list. ``status``: the outcome's, ``running``, ``interrupted`` (its controller died)."""

    run: str
    started: float
    hosts: int
    ranks: int
    script: str
    status: str
    seconds: float | None
    cause: str = ""


class HostView(msgspec.Struct, frozen=True, kw_only=True):
    """One host of a run: how its ranks stand and what is left there."""

    host: str
    ranks: tuple[int, ...]
    state: str
    heard: float | None
    left: int | None
    outputs: str


def view(plan: LaunchPlan, outcome: Outcome | None, *, started: float, supervised: bool) -> RunView:
    return RunView(
        run=plan.run,
        started=started,
        hosts=len(plan.nodes),
        ranks=plan.world_size,
        script=next(part for part in reversed(plan.command) if not part.startswith("-")),
        status=outcome.status if outcome else "running" if supervised else "interrupted",
        seconds=outcome.seconds if outcome else None,
        cause=_cause(outcome),
    )


def _cause(outcome: Outcome | None) -> str:
    cause = outcome.cause if outcome else None
    if cause is None:
        return ""
    where = (
        f"{cause.host} rank {cause.rank}: " if cause.rank is not None else cause.host and f"{cause.host}: "
    )
    return f"{where}{cause.message}"


def hosts_of(plan: LaunchPlan, events: Iterable[dict[str, Any]]) -> tuple[HostView, ...]:
    """How each host stood at its last event."""
    by_host: dict[str, list[dict[str, Any]]] = {node.host: [] for node in plan.nodes}
    for event in events:
        if event.get("host") in by_host:
            by_host[event["host"]].append(event)
    return tuple(_host(node.host, node.ranks, by_host[node.host]) for node in plan.nodes)


def _host(host: str, ranks: tuple[int, ...], events: Sequence[dict[str, Any]]) -> HostView:
    exits = {event["rank"]: event["code"] for event in events if event["event"] == "rank-exit"}
    begun = {event["rank"] for event in events if event["event"] == "rank-start"}
    end = next((event for event in events if event["event"] == "end"), None)
    parts = []
    if running := len(begun - exits.keys()):
        parts.append(f"{running} running" if end is None else f"{running} unknown")
    for code in sorted(set(exits.values())):
        count = sum(each == code for each in exits.values())
        parts.append(f"{count} ended with {code}")
    if not begun:
        parts.append("starting" if end is None else "never started")
    times = [event["time"] for event in events if "time" in event]
    return HostView(
        host=host,
        ranks=ranks,
        state=", ".join(parts),
        heard=max(times, default=None),
        left=end["left"] if end else None,
        outputs=next((str(event["cwd"]) for event in events if event["event"] == "started"), ""),
    )


def table(runs: Sequence[RunView], *, now: float, width: int) -> Table:
    """Newest last. The cause has a column only where ``width`` characters leave room for one."""
    wide = width >= _WIDE
    found = Table(box=None, pad_edge=False, header_style="dim")
    found.add_column("run", no_wrap=True, min_width=20)
    found.add_column("started", no_wrap=True, min_width=10)
    found.add_column("ranks", no_wrap=True, min_width=6)
    found.add_column("script", no_wrap=True, min_width=8, max_width=16)
    found.add_column("status", no_wrap=True, min_width=9)
    found.add_column("took", no_wrap=True, min_width=4)
    if wide:
        found.add_column("cause", no_wrap=True)
    for run in runs:
        found.add_row(
            run.run,
            f"{span(now - run.started)} ago",
            f"{run.ranks} on {run.hosts}",
            run.script,
            Text(run.status, style=_STYLES.get(run.status, "yellow")),
            span(run.seconds) if run.seconds is not None else "",
            *([Text(run.cause.splitlines()[0] if run.cause else "")] if wide else []),
        )
    return found


def host_table(hosts: Sequence[HostView], *, now: float) -> Table:
    found = Table(box=box.SIMPLE, pad_edge=False, header_style="dim")
    for name in ("host", "ranks", "state", "last event", "left"):
        found.add_column(name)
    for host in hosts:
        ranks = str(host.ranks[0]) if len(host.ranks) == 1 else f"{host.ranks[0]}-{host.ranks[-1]}"
        heard = f"{span(now - host.heard)} ago" if host.heard is not None else "none"
        found.add_row(host.host, ranks, host.state, heard, "" if host.left is None else str(host.left))
    return found


def span(seconds: float) -> str:
    """``42 s``, ``3 min``, ``5 h``, ``2 days``: short, for a column."""
    for size, unit in ((86400.0, "days"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
