"""A run, and each of its hosts, as the few values that lists and tables show. No I/O."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, get_args

import msgspec

from clusterctl.plan.model import LaunchPlan
from clusterctl.report.harmless import harmless
from clusterctl.report.pace import Pace
from clusterctl.settings import RUN
from clusterctl.store.outcome import Outcome, Standing

STATUSES: tuple[Standing, ...] = get_args(Standing)


class RunView(msgspec.Struct, frozen=True, kw_only=True):
    """One run for a list. ``started`` is wall clock, ``seconds`` how long the run took, None before its end.
    ``alone_since``: when the controller of a run that is not over was last at work, where it is dead or
    stands still; ``alone_for``: how long its hosts go on after that.
    """

    run: str
    started: float
    hosts: int
    ranks: int
    script: str
    arguments: tuple[str, ...] = ()
    status: Standing
    seconds: float | None
    cause: str = ""
    attempt: int = 1
    """The newest."""
    alone_since: float | None = None
    alone_for: float = 0.0

    @property
    def command(self) -> str:
        """The script's name and its arguments, on one line."""
        return harmless(shlex.join((PurePosixPath(self.script).name, *self.arguments)))


class RunRow(msgspec.Struct, frozen=True, kw_only=True):
    """A run of a list, and how far it has come. ``name`` is that of its directory; where that cannot be read
    there is no ``view``, and ``problem`` says why."""

    name: str
    view: RunView | None = None
    hosts: tuple[str, ...] = ()
    pace: Pace | None = None
    problem: str = ""


class HostView(msgspec.Struct, frozen=True, kw_only=True):
    """One host of a run: how its ranks stand, its last event (wall clock), what is left, its directory there.

    ``left`` is None while nobody knows: before the end, and on a lost host. ``printed`` is when its ranks'
    last output came, None where there was none.
    """

    host: str
    ranks: tuple[int, ...]
    state: str
    heard: float | None
    left: int | None
    outputs: str
    printed: float | None = None


def view(
    plan: LaunchPlan,
    outcome: Outcome | None,
    *,
    started: float,
    supervised: bool,
    alone_since: float | None = None,
) -> RunView:
    words = [part for part in plan.command if not part.startswith("-")]
    return RunView(
        run=plan.run,
        started=started,
        hosts=len(plan.nodes),
        ranks=plan.world_size,
        script=words[-1] if words else plan.command[-1],
        arguments=plan.arguments,
        status=outcome.status if outcome else "running" if supervised else "interrupted",
        seconds=outcome.seconds if outcome else None,
        cause=_cause(outcome),
        attempt=plan.attempt,
        alone_since=alone_since if outcome is None else None,
        alone_for=RUN.lease(plan.on_disconnect),
    )


def _cause(outcome: Outcome | None) -> str:
    cause = outcome.cause if outcome else None
    if cause is None or cause.kind == "operator":
        return ""
    where = f"{cause.host} rank {cause.rank}" if cause.rank is not None else cause.host
    return f"{where}: {cause.message}" if where else cause.message


def hosts_of(
    plan: LaunchPlan,
    events: Iterable[dict[str, Any]],
    outcome: Outcome | None = None,
    *,
    printed: Mapping[str, float | None] | None = None,
) -> tuple[HostView, ...]:
    """How each host stood at its last event; what is left there as the outcome proved it.

    ``printed``: host -> when the last output of its ranks came.
    """
    by_host: dict[str, list[dict[str, Any]]] = {node.host: [] for node in plan.nodes}
    for event in events:
        if event.get("host") in by_host:
            by_host[event["host"]].append(event)
    proved = outcome.left_behind if outcome else {}
    found = (_host(node.host, node.ranks, by_host[node.host], proved) for node in plan.nodes)
    times = printed or {}
    return tuple(msgspec.structs.replace(each, printed=times.get(each.host)) for each in found)


def _host(
    host: str, ranks: tuple[int, ...], events: Sequence[dict[str, Any]], proved: dict[str, int | None]
) -> HostView:
    last = {event["event"]: event for event in events}
    left = last["end"]["left"] if "end" in last else None
    times = [event["time"] for event in events if "time" in event]
    return HostView(
        host=host,
        ranks=ranks,
        state=_state(events, last, over=bool(proved)),
        heard=max(times, default=None),
        left=proved.get(host, left),
        outputs=str(last["started"]["cwd"]) if "started" in last else "",
    )


def _state(events: Sequence[dict[str, Any]], last: dict[str, dict[str, Any]], *, over: bool) -> str:
    exits = {event["rank"]: event["code"] for event in events if event["event"] == "rank-exit"}
    begun = {event["rank"] for event in events if event["event"] == "rank-start"}
    if not begun:
        if "refused" in last:
            return f"refused: {last['refused']['reason']}"
        return "never started" if "end" in last or over else "starting"
    parts = []
    if running := len(begun - exits.keys()):
        parts.append(f"{running} ended untold" if "end" in last else f"{running} running")
        parts[0] += " when last heard" if over and "end" not in last else ""
    for code in sorted(set(exits.values())):
        parts.append(f"{sum(each == code for each in exits.values())} ended with {code}")
    return ", ".join(parts)
