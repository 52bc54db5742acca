"""The page of a run, or of several laid over one another. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import datetime
from pathlib import PurePosixPath

import msgspec
from markupsafe import Markup

from clusterctl.plan.variables import shown
from clusterctl.report.attempts import duration
from clusterctl.report.findings import brief
from clusterctl.report.html import charts
from clusterctl.report.html.axis import Axis, written
from clusterctl.report.html.charts import Bar
from clusterctl.report.html.curves import curves
from clusterctl.report.html.happened import happened
from clusterctl.report.html.pages import page, parts
from clusterctl.report.html.points import MANY
from clusterctl.report.html.ranks import broken, slowest, step_times
from clusterctl.report.html.record import RunRecord
from clusterctl.report.html.strip import MOST_HOSTS, busy, shades, strip
from clusterctl.report.why import after, echo_in_words
from clusterctl.store.outcome import Spent
from clusterctl.store.step import Step, as_one

_SPENT = ("training", "start", "until the failure was noticed", "stop", "steps done again")


class Variable(msgspec.Struct, frozen=True):
    """``hosts``: empty where all have it."""

    name: str
    value: str
    origin: str
    hosts: str = ""


def run_page(record: RunRecord) -> str:
    """One run: what became of it and why, then curves, hosts, events and plan."""
    return page("run.html", run=record.plan.run, title=tab(record), parts=run_parts(record))


def tab(record: RunRecord) -> str:
    """What its page is called: ``20260101-120000-abcd: failed``."""
    return f"{record.plan.run}: {record.outcome.status if record.outcome else record.found.status}"


def run_parts(record: RunRecord) -> dict[str, Markup]:
    """The sections of its page by their names, in their order; empty where there is nothing to tell."""
    lines, more = happened(record.events)
    return parts(
        "run_parts.html",
        record=record,
        plan=record.plan,
        outcome=record.outcome,
        found=record.found,
        title=title(record),
        facts=_facts(record),
        cascades=[echo_in_words(each) for each in record.found.cascades],
        spent=_spent(record.outcome.spent) if record.outcome else None,
        attempts=record.outcome.attempts if record.outcome else (),
        curves=curves([record]),
        ranks=step_times(record),
        slowest=slowest(record.steps),
        broken=broken(record.steps),
        many=len(record.steps) > MANY,
        strip=_strip(record),
        shades=shades(),
        most_hosts=MOST_HOSTS,
        brief=brief,
        measure="GPUs" if _tells_gpus(record) else "cores",
        lines=lines,
        more=more,
        variables=_variables(record),
        differing=_differing(record),
        again=again(record),
        clock=_clock,
        duration=duration,
    )


def overlay_page(records: Sequence[RunRecord]) -> str:
    """Several runs: how each ended, and their curves on top of one another."""
    rows = [(record, title(record), dict(_facts(record))) for record in records]
    return page("runs.html", rows=rows, curves=curves(records), spans=_spans(records))


def title(record: RunRecord) -> str:
    """``failed after 41.2 s: node2 rank 1: ...``, as the closing line of `launch` has it."""
    outcome = record.outcome
    if outcome is None:
        steps = as_one(record.steps)
        return f"{record.found.status}, step {_last(steps[-1])}" if steps else record.found.status
    text = f"{outcome.status} after {duration(outcome.seconds)}"
    if len(outcome.attempts) > 1:
        text += f", attempt {outcome.attempts[-1].attempt}"
    if outcome.cause is not None:
        words = record.found.means if record.found.known else outcome.cause.message
        text += after(outcome.status, outcome.cause, words)
    return text


def again(record: RunRecord) -> str:
    """The command line that starts it once more, in the directory it was started in."""
    plan = record.plan
    words = ["clusterctl", "launch", "-H", plan.hostfile, "--nodes", str(len(plan.nodes))]
    words += ["--engine", "deepspeed"] if plan.start != "torchrun" else []
    if record.typed is not None:
        words = ["clusterctl", "launch", *record.typed]
    command = [word for word in plan.command if word not in ("{python}", "-u")]
    if command[:1] == ["-m"]:
        words.append("-m")
        command = command[1:]
    place = PurePosixPath(plan.code.root, plan.code.subdirectory)
    return f"cd {shlex.quote(str(place))} && {shlex.join([*words, *command, *plan.arguments])}"


def _facts(record: RunRecord) -> list[tuple[str, str]]:
    plan, outcome = record.plan, record.outcome
    steps = as_one(record.steps)
    found = [
        ("run", plan.run),
        ("started", f"{datetime.fromtimestamp(record.started).astimezone():%Y-%m-%d %H:%M:%S %Z}"),
        ("ran on", f"{_count(plan.world_size, 'rank')} on {_count(len(plan.nodes), 'host')}, {plan.start}"),
        ("script", shlex.join([*plan.command, *plan.arguments]).replace("'{python}'", "python")),
    ]
    if outcome is not None:
        found.insert(2, ("exit code", str(outcome.exit_code)))
        left = sum(each or 0 for each in outcome.left_behind.values())
        unknown = sum(each is None for each in outcome.left_behind.values())
        processes = f"{left} process{'es' * (left != 1)}"
        asked = f", {_count(unknown, 'host')} could not be asked" if unknown else ""
        found.append(("left behind", processes + asked))
    if steps:
        found.append(("last step", _last(steps[-1])))
    if plan.code.git is not None:
        git = plan.code.git
        differing = f", {_count(git.changed, 'file')} changed, {git.untracked} not in git"
        found.append(("commit", f"{git.commit}{differing if git.changed or git.untracked else ''}"))
    return found


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _last(step: Step) -> str:
    told = [f"{step.step}"]
    if step.loss is not None:
        told.append(f"loss {step.loss:.5g}")
    if step.tokens_per_s is not None:
        told.append(written(step.tokens_per_s, "tokens/s"))
    return ", ".join(told)


def _spent(spent: Spent | None) -> tuple[Markup, Markup] | None:
    """(legend, chart) of where the time went."""
    if spent is None or spent.productive is None:
        return None
    parts = (spent.productive, spent.start or 0.0, spent.detection, spent.stop, spent.lost or 0.0)
    share = f"{spent.share:.0%} trained" if spent.share is not None else ""
    bar = Bar("", parts, share)
    told = [f"{kind}: {written(size, 's')}" if size else "" for kind, size in zip(_SPENT, parts, strict=True)]
    return charts.legend(told), charts.bars([bar], _SPENT, Axis("time", "s"), title="where the time went")


def _strip(record: RunRecord) -> Markup | None:
    told = {host: each for host, each in record.samples.items() if any(busy(one) is not None for one in each)}
    if not told:
        return None
    ended = max(each[-1].time for each in told.values())
    if record.outcome is not None:
        ended = max(ended, record.started + record.outcome.seconds)
    marks = [
        (float(event["time"]), f"attempt {event['attempt']}")
        for event in record.events
        if event.get("event") == "attempt" and isinstance(event.get("time"), int | float)
    ]
    rows = {node.host: record.samples.get(node.host, ()) for node in record.plan.nodes}
    return strip(rows | told, record.started, ended, marks)


def _tells_gpus(record: RunRecord) -> bool:
    return any(gpu is not None for each in record.samples.values() for one in each for gpu in one.gpus or ())


def _variables(record: RunRecord) -> list[Variable]:
    """Those that all hosts have first, then those of single hosts. Secrets are hidden."""
    nodes = record.plan.nodes
    holders: dict[tuple[str, str, str], list[str]] = {}
    for node in nodes:
        for each in node.settings:
            holders.setdefault((each.name, shown(each), each.origin), []).append(node.host)
    found = [
        Variable(*key, hosts="" if len(hosts) == len(nodes) else ", ".join(hosts))
        for key, hosts in holders.items()
    ]
    return sorted(found, key=lambda each: (bool(each.hosts), each.name))


def _differing(record: RunRecord) -> list[tuple[str, dict[str, list[str]]]]:
    """(what, value -> hosts) of what hosts do not have alike."""
    names = sorted({name for each in record.hosts for name in each.has})
    found = []
    for name in names:
        values: dict[str, list[str]] = {}
        for each in record.hosts:
            values.setdefault(each.has.get(name, ""), []).append(each.host)
        if len(values) > 1:
            found.append((name, values))
    return found


def _spans(records: Sequence[RunRecord]) -> Markup | None:
    """Where the time of each of several runs went."""
    rows = []
    for record in records:
        spent = record.outcome.spent if record.outcome else None
        if spent is None or spent.productive is None:
            rows.append(Bar(record.plan.run, None, "its logs tell of no steps"))
            continue
        parts = (spent.productive, spent.start or 0.0, spent.detection, spent.stop, spent.lost or 0.0)
        rows.append(Bar(record.plan.run, parts, f"{spent.share:.0%} trained" if spent.share else ""))
    if all(row.parts is None for row in rows):
        return None
    return charts.legend(_SPENT) + charts.bars(rows, _SPENT, Axis("time", "s"), title="where the time went")


def _clock(at: float) -> str:
    return f"{datetime.fromtimestamp(at):%H:%M:%S}"
