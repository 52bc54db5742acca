"""Hosts, their GPUs and who uses them, a line each; and how far runs are. No I/O."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import PurePosixPath

import msgspec
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from clusterctl.messages.top import GpuSeen, HostSeen, Job
from clusterctl.report import pace as pacing
from clusterctl.report.harmless import harmless
from clusterctl.report.pace import Pace
from clusterctl.report.runs import span

_BLOCKS = "▁▂▃▄▅▆▇█"
_SPARK = 24
_WIDE = 110
_MOST_JOBS = 3
_LATE = 15.0
_TELL_IDLE = 60.0
_FREE_USE, _FREE_MEMORY = 0.05, 0.03
UNKNOWN = "-"


class HostLine(msgspec.Struct, frozen=True, kw_only=True):
    """``at``: wall clock here when ``seen`` came. ``idle``: card -> since when it is held and does nothing.
    ``problem``: why nothing newer is known."""

    host: str
    seen: HostSeen | None = None
    at: float = 0.0
    idle: dict[int, float] = {}
    problem: str = ""


class RunLine(msgspec.Struct, frozen=True, kw_only=True):
    """``heard``: when its controller was last at work, wall clock. ``last``: the last line of rank 0."""

    run: str
    status: str
    ranks: int
    hosts: int
    pace: Pace | None = None
    losses: tuple[float, ...] = ()
    heard: float
    last: str = ""


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """All of one moment, ``now``. Hosts in a fixed order."""

    hosts: tuple[HostLine, ...]
    runs: tuple[RunLine, ...] = ()
    now: float


class _Row(msgspec.Struct, frozen=True):
    cells: tuple[str, ...]
    style: str = ""


_NARROW_HEAD = ("host", "dev", "use", "memory", "°C", "W", "user", "run rank, or command")
_WIDE_HEAD = ("host", "dev", "name", "use", "memory", "°C", "W", "user", "pid", "for", "run rank, or command")


def render(overview: Overview, *, width: int, only: str = "") -> RenderableType:
    """The table and the runs below it. ``only``: lines that hold this text (a user, ``free``)."""
    wide = width >= _WIDE
    head = _WIDE_HEAD if wide else _NARROW_HEAD
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim", expand=True)
    for name in head:
        right = name in ("use", "memory", "°C", "W", "pid", "for")
        last = name == head[-1]
        table.add_column(
            name,
            justify="right" if right else "left",
            no_wrap=True,
            overflow="ellipsis",
            ratio=1 if last else None,
        )
    for row in rows(overview, wide=wide):
        if only.lower() in " ".join(row.cells).lower():
            table.add_row(*(Text(cell) for cell in row.cells), style=row.style)
    parts: list[RenderableType] = [table, Text(summary(overview), style="dim")]
    for run in overview.runs:
        parts += ["", *_run(run, overview.now)]
    return Group(*parts)


def rows(overview: Overview, *, wide: bool) -> list[_Row]:
    """A line for each card and job; one for a host without cards, or without an answer."""
    found: list[_Row] = []
    for line in overview.hosts:
        found += _host(line, overview.now, wide=wide)
    return found


def summary(overview: Overview) -> str:
    """How many cards are free, held idle, at work; and hosts that told nothing."""
    told = [(line, line.seen.gpus or ()) for line in overview.hosts if line.seen]
    cards = [(line, index, gpu) for line, gpus in told for index, gpu in enumerate(gpus)]
    silent = sum(line.seen is None for line in overview.hosts)
    parts = [_count(len(overview.hosts), "host")]
    if cards:
        free = sum(_is_free(line, index, gpu) for line, index, gpu in cards)
        since = [line.idle[index] for line, index, _ in cards if index in line.idle]
        idle = sum(overview.now - each >= _TELL_IDLE for each in since)
        parts += [_count(len(cards), "GPU"), f"{free} free"]
        parts += [f"{idle} held and idle"] if idle else []
    if silent:
        parts.append(f"{silent} without an answer")
    return ", ".join(parts)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _host(line: HostLine, now: float, *, wide: bool) -> list[_Row]:
    name = harmless(line.host)
    if line.seen is None:
        return [_odd(name, line.problem or "no answer yet", wide=wide, bad=bool(line.problem))]
    seen, found = line.seen, []
    if line.problem or now - line.at > _LATE:
        why = line.problem or "nothing new"
        found.append(
            _odd(
                name, f"{harmless(why)}; last heard {span(max(0.0, now - line.at))} ago", wide=wide, bad=True
            )
        )
    if seen.gpus:
        for index, gpu in enumerate(seen.gpus):
            found += _card(line, seen, index, gpu, now, wide=wide)
        return found
    if seen.driver == "asked":
        found.append(_odd(name, "the GPUs' driver does not answer", wide=wide, bad=True))
    memory = _memory(seen.memory, seen.memory_total)
    cores = f"{seen.cores or UNKNOWN} cores"
    left = [name, "cpu", *([cores] if wide else []), _share(seen.cpu), memory, UNKNOWN, UNKNOWN]
    return found + _with_jobs(left, seen.jobs, now, wide=wide, nobody="")


def _card(
    line: HostLine, seen: HostSeen, index: int, gpu: GpuSeen | None, now: float, *, wide: bool
) -> list[_Row]:
    name = harmless(line.host)
    if gpu is None:
        return [_odd(name, f"GPU {index} is lost", wide=wide, bad=True)]
    left = [name, str(index), *([_model(gpu)] if wide else []), _share(gpu.use)]
    left += [_memory(gpu.memory, gpu.total), _number(gpu.temperature), _number(gpu.watts)]
    jobs = [job for job in seen.jobs if job.gpu == index]
    free = "free" if _is_free(line, index, gpu) else ""
    found = _with_jobs(left, jobs, now, wide=wide, nobody=free)
    since = line.idle.get(index)
    if since is not None and now - since >= _TELL_IDLE:
        first = found[0]
        said = f"idle {span(now - since)}  {first.cells[-1]}".rstrip()
        found[0] = _Row((*first.cells[:-1], said), "yellow")
    return found


def _is_free(line: HostLine, index: int, gpu: GpuSeen | None) -> bool:
    if gpu is None or gpu.use is None or gpu.memory is None or not gpu.total or line.problem:
        return False
    held = any(job.gpu == index for job in (line.seen.jobs if line.seen else ()))
    return not held and gpu.use <= _FREE_USE and gpu.memory <= _FREE_MEMORY * gpu.total


def _with_jobs(left: list[str], jobs: Sequence[Job], now: float, *, wide: bool, nobody: str) -> list[_Row]:
    if not jobs:
        user = ("",) * (3 if wide else 1)
        return [_Row((*left, *user, nobody), "green" if nobody == "free" else "")]
    found = []
    for number, job in enumerate(jobs[:_MOST_JOBS]):
        cells = left if number == 0 else [""] * len(left)
        since = "" if job.since is None else span(max(0.0, now - job.since))
        more = (harmless(job.user), str(job.pid), since) if wide else (harmless(job.user),)
        found.append(_Row((*cells, *more, _work(job))))
    if len(jobs) > _MOST_JOBS:
        blank = ("",) * (len(left) + (3 if wide else 1))
        found.append(_Row((*blank, f"and {len(jobs) - _MOST_JOBS} more"), "dim"))
    return found


def _work(job: Job) -> str:
    words = harmless(job.command).split()
    program = PurePosixPath(words[0]).name if words else ""
    script = next((PurePosixPath(word).name for word in words[1:] if not word.startswith("-")), "")
    command = f"{program} {script}".strip()
    if not job.run:
        return command
    rank = f" rank {job.rank}" if job.rank is not None else ""
    return f"{harmless(job.run)}{rank}  {script or program}"


def _odd(name: str, text: str, *, wide: bool, bad: bool) -> _Row:
    blank = ("",) * (len(_WIDE_HEAD if wide else _NARROW_HEAD) - 2)
    return _Row((name, *blank, harmless(text)), "red" if bad else "dim")


def _share(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.0%}"


def _number(value: int | None) -> str:
    return UNKNOWN if value is None else str(value)


def _memory(used: int | None, total: int | None) -> str:
    if used is None:
        return UNKNOWN
    gib = 1024**3
    return f"{used / gib:.1f}" + (f"/{total / gib:.0f}G" if total else "G")


def _model(gpu: GpuSeen) -> str:
    return harmless(gpu.name or UNKNOWN).removeprefix("NVIDIA ")[:20]


def _run(run: RunLine, now: float) -> list[RenderableType]:
    title = Text.assemble((run.run, "bold"), f"  {run.status}, {run.ranks} ranks on {run.hosts} hosts")
    if run.status == "running":
        title.append(f", its controller heard {span(max(0.0, now - run.heard))} ago", "dim")
    found: list[RenderableType] = [title]
    if run.pace is not None:
        line = pacing.text(run.pace, age="" if run.pace.time is None else span(max(0.0, now - run.pace.time)))
        found.append(line)
    if spark := sparkline(run.losses):
        found.append(Text.assemble(("loss  ", "dim"), spark))
    if run.last:
        found.append(Text.assemble(("said  ", "dim"), harmless(run.last), no_wrap=True, overflow="ellipsis"))
    return found


def sparkline(values: Sequence[float]) -> str:
    """The newest values as blocks, lowest to highest; a gap where a value is not finite."""
    newest = values[-_SPARK:]
    finite = [value for value in newest if math.isfinite(value)]
    if len(finite) < 2:
        return ""
    low, high = min(finite), max(finite)
    scale = (len(_BLOCKS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BLOCKS[round((each - low) * scale)] if math.isfinite(each) else " " for each in newest)
