"""Runs as tables: the list, and one run host by host. No I/O; ``now`` is an argument."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from clusterctl.advise.explain import HostWarning
from clusterctl.advise.hang_verdict import HangSeen
from clusterctl.plan.model import LaunchPlan
from clusterctl.report.findings import brief
from clusterctl.report.harmless import harmless
from clusterctl.report.hosts import FOLD_FROM
from clusterctl.report.pace import Pace
from clusterctl.report.pace import text as pace_text
from clusterctl.report.run_view import HostView, RunView
from clusterctl.store.outcome import Outcome

_WIDE = 120
_NARROW = 80
_COMMAND = 36
_CAUSE = 60
_STYLES = {"succeeded": "green", "running": "cyan"} | dict.fromkeys(
    ("failed", "lost", "hung", "error"), "red"
)


def table(runs: Sequence[RunView], *, width: int) -> RenderableType:
    """In the order given, times of this machine's zone. What ran and why it failed stand beside the run where
    ``width`` leaves room for them, else below."""
    wide = width >= _WIDE
    rows: list[tuple[str, ...]] = [("run", "started", "ranks", "status", "took")]
    rows += [
        (
            run.run,
            datetime.fromtimestamp(run.started).strftime("%Y-%m-%d %H:%M"),
            f"{run.ranks} on {run.hosts}",
            run.status,
            ", ".join(_took(run)),
        )
        for run in runs
    ]
    commands = [_short(run.command, _COMMAND if wide else width - 2) for run in runs]
    if wide and not _room_for_causes(rows, commands, runs, width):
        wide, commands = False, [_short(run.command, width - 2) for run in runs]
    if wide:
        rows = [(*row, what) for row, what in zip(rows, ("script", *commands), strict=True)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for number, row in enumerate(rows):
        line = Text(no_wrap=True, overflow="ellipsis")
        for cell, wanted, name in zip(row, widths, rows[0], strict=True):
            style = "dim" if not number else _STYLES.get(cell, "yellow") if name == "status" else ""
            line.append(cell.ljust(wanted) + "  ", style)
        cause = harmless(" ".join(runs[number - 1].cause.split())) if number else "cause"
        if wide:
            line.append(_short(cause, max(width - sum(widths) - 2 * len(widths), 0)), "" if number else "dim")
        line.rstrip()
        lines.append(line)
        below = [] if wide or not number else [(commands[number - 1], ""), (cause, "dim")]
        lines += [
            Text("  " + _short(text, width - 2), style=style, no_wrap=True) for text, style in below if text
        ]
    return Group(*lines)


def _room_for_causes(
    rows: Sequence[Sequence[str]], commands: Sequence[str], runs: Sequence[RunView], width: int
) -> bool:
    """A line of its own tells more of a cause than what is left at the right of a table."""
    columns = [*zip(*rows, strict=True), commands]
    left = width - sum(2 + max(map(len, column), default=0) for column in columns)
    return left >= min(_CAUSE, max((len(run.cause) for run in runs), default=0))


def _took(run: RunView) -> list[str]:
    told = [span(run.seconds)] if run.seconds is not None else []
    return [*told, f"attempt {run.attempt}"] if run.attempt > 1 else told


def status(
    run: RunView,
    hosts: Sequence[HostView],
    outcome: Outcome | None,
    *,
    now: float,
    controller: str = "",
    warnings: Sequence[HostWarning] = (),
    pace: Pace | None = None,
    looked: HangSeen | None = None,
) -> RenderableType:
    """One run: a title, a line per host, how far it has come, what hosts warn of, where its outputs lie.
    ``looked``: why it seems to hang. ``controller``: the other machine it is supervised from."""
    title = Text.assemble(("run ", "dim"), (run.run, "bold"), "  ")
    title.append(run.status, f"bold {_STYLES.get(run.status, 'yellow')}")
    title.append(f"  attempt {run.attempt}" if run.attempt > 1 else "", "dim")
    what = f"{run.script}, {_count(run.ranks, 'rank')} on {_count(run.hosts, 'host')}"
    parts: list[RenderableType] = [
        title,
        Text(f"{what}, started {span(now - run.started)} ago", style="dim"),
    ]
    if controller and outcome is None:
        parts.append(Text(f"supervised from {controller}", style="dim"))
    if outcome is None and run.alone_since is not None:
        parts.append(Text(_alone(run, run.alone_since, now), style="yellow"))
    parts += ["", _host_table(hosts, now=now), ""]
    if pace is not None:
        age = span(now - pace.time) if outcome is None and pace.time is not None else ""
        parts.append(pace_text(pace, age=age))
    if looked is not None:
        when = f"{span(now - looked.at)} ago: "
        parts.append(Text.assemble(("hang  ", "yellow"), when, harmless(looked.verdict.sentence)))
    parts += _warned(warnings)
    places = folded_places(run.run, {host.host: host.outputs for host in hosts if host.outputs})
    for number, (place, names) in enumerate(places.items()):
        label = "files " if number == 0 else " " * 6
        parts.append(
            Text.assemble((label, "dim"), f"{brief(names)}:{place}", no_wrap=True, overflow="ignore")
        )
    return Group(*parts)


def _alone(run: RunView, since: float, now: float) -> str:
    """Of a run that nobody supervises: since when, and what its hosts do about it."""
    why = "its controller is dead" if run.status == "interrupted" else "its controller stands still"
    at = datetime.fromtimestamp(since).strftime("%Y-%m-%d %H:%M:%S")
    left = since + run.alone_for - now
    ends = f"end their ranks in {span(left)}, unless one comes back" if left > 0 else "have ended their ranks"
    return f"no controller since {at} ({span(now - since)} ago), {why}; hosts {ends}. Last heard:"


def _warned(warnings: Sequence[HostWarning]) -> list[Text]:
    """What hosts warn of, equal words once."""
    groups: dict[tuple[bool, str], list[str]] = {}
    for each in warnings:
        groups.setdefault((each.warning.what == "unseen", each.warning.text), []).append(each.host)
    return [
        Text.assemble(
            ("      " if unseen else "warn  ", "dim" if unseen else "yellow"), f"{brief(names)}: {text}"
        )
        for (unseen, text), names in sorted(groups.items(), key=lambda group: group[0][0])
    ]


def folded_places(run: str, places: Mapping[str, str]) -> dict[str, list[str]]:
    """Directory -> its hosts. Copies of one run differ in the node rank only: there it becomes a ``*``."""
    copy = re.compile(rf"(/\.clusterctl/node/{re.escape(run)}/)\d+(?=/|$)")
    found: dict[str, list[str]] = {}
    for host, place in places.items():
        shown = copy.sub(r"\1*", place) if len(places) > 1 else place
        found.setdefault(shown, []).append(host)
    return found


def _host_table(hosts: Sequence[HostView], *, now: float) -> Table:
    found = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    over = any(host.left is not None for host in hosts)
    for name in ("host", "ranks", "state", *(("last event", "left") if over else ("last output",))):
        found.add_column(name)
    groups: dict[object, list[HostView]] = {}
    for number, host in enumerate(hosts):
        same = (host.state, host.left) if len(hosts) >= FOLD_FROM else number
        groups.setdefault(same, []).append(host)
    for alike in groups.values():
        ranks = [rank for host in alike for rank in host.ranks]
        times = [host.heard if over else host.printed for host in alike]
        known = [each for each in times if each is not None]
        heard = f"{span(now - min(known))} ago" if len(known) == len(alike) else "none"
        left = Text(
            "?" if alike[0].left is None else str(alike[0].left), "bold yellow" if alike[0].left else ""
        )
        found.add_row(
            harmless(brief(host.host for host in alike)),
            _span(ranks),
            Text(harmless(alike[0].state)),
            heard,
            *[left] * over,
        )
    return found


def _span(ranks: Sequence[int]) -> str:
    first, last = min(ranks), max(ranks)
    if first == last:
        return str(first)
    return f"{first}-{last}" if last - first + 1 == len(ranks) else f"{len(ranks)} of {first}-{last}"


def what_pull_does(plan: LaunchPlan, places: Collection[str]) -> str:
    """For `next_steps`, of a run that worked in the directories ``places``; empty where it worked nowhere."""
    if not places:
        return ""
    copied = any(plan.is_copy(place) for place in places)
    return "bring its outputs here" if copied else "bring here what is not shared"


def next_steps(
    run: RunView,
    outcome: Outcome | None,
    *,
    pull: str = "",
    logs: bool = True,
    looked: HangSeen | None = None,
) -> RenderableType:
    """What to type next, whole commands. ``pull``: what pull does, if anything; ``logs``: nobody has seen
    the output of a run that succeeded."""
    cause = outcome.cause if outcome else None
    lines: list[tuple[str, str]] = []
    if outcome is None:
        what = "watch it, to its end" if run.alone_since is None else "supervise it again, and watch"
        lines.append((f"clusterctl attach {run.run}", what))
    if run.status == "running":
        lines.append((f"clusterctl logs -f {run.run}", "follow its output"))
    if outcome is None:
        what = "end it on all hosts" if run.status == "running" else "end what is left, get its logs"
        lines.append((f"clusterctl stop {run.run}", what))
    if looked is not None:
        lines.append((f"clusterctl why {run.run}", "what its ranks did then"))
    if cause is not None and run.status in ("failed", "error"):
        lines.append((f"clusterctl why {run.run}", "why it failed"))
    if run.status == "hung":
        lines.append((f"clusterctl why {run.run}", "the stacks of its ranks"))
    if cause is not None and cause.rank is not None:
        lines.append((f"clusterctl logs {run.run} --rank {cause.rank} --tail 50", "its last lines"))
    if outcome is not None and outcome.incomplete_anywhere and pull and run.status != "refused":
        lines.append((f"clusterctl logs {run.run} --fetch", "bring the rest of its logs"))
    if cause is not None and cause.kind == "lost" and cause.host:
        lines.append((f"clusterctl doctor -i {cause.host}", "is the host back?"))
    if run.status == "succeeded" and logs:
        lines.append((f"clusterctl logs {run.run}", "all that was printed"))
    if outcome is not None and pull and run.status not in ("refused", "error"):
        lines.append((f"clusterctl pull {run.run}", pull))
    if not lines and run.status not in ("stopped", "timeout"):
        lines.append(("clusterctl doctor", "look at the hosts"))
    # Beside one another where that fits, so that no terminal breaks what is to be pasted.
    room = _NARROW - len("next    ") - max((len(what) for _, what in lines), default=0)
    widest = min(max((len(command) for command, _ in lines), default=0), room)
    return Group(
        *(
            Text.assemble(
                ("next  " if number == 0 else " " * 6, "dim"),
                (command.ljust(widest), "cyan"),
                (f"  {what}", "dim"),
                no_wrap=True,
                overflow="ignore",
            )
            for number, (command, what) in enumerate(lines)
        )
    )


def over_already(run: RunView, outcome: Outcome, *, now: float) -> str:
    """For a stop that comes too late: one line, and one more where not everything was proved to be gone."""
    ended = span(now - run.started - (run.seconds or 0.0))
    text = f"run {run.run} is over already: {run.status}, {ended} ago"
    for host, left in outcome.left_behind.items():
        if left is None:
            text += f"\n{host} could not be asked then; look: clusterctl doctor -i {host}"
        elif left:
            text += f"\n{host} still had {left} processes of it then: clusterctl exec -i {host} -- ps aux"
    return text


def span(seconds: float) -> str:
    """``42 s``, ``3 min``, ``5 h``, ``2 days``: short, for a column."""
    for size, unit in ((86400.0, "days"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _short(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
