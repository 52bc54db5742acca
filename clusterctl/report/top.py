"""What `top` knows of hosts, their GPUs, who uses them and how far runs are; and its rows. No I/O."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

import msgspec

from clusterctl.messages.top import GpuSeen, HostSeen, Job
from clusterctl.report.harmless import harmless
from clusterctl.report.pace import Pace
from clusterctl.report.runs import span
from clusterctl.store.outcome import Standing

_WIDE = 110
_MOST_JOBS = 3
_LATE = 15.0
_TELL_IDLE = 60.0
_FREE_USE, _FREE_MEMORY = 0.05, 0.03
UNKNOWN = "-"


class HostLine(msgspec.Struct, frozen=True, kw_only=True):
    """``at``: wall clock here when ``seen`` came, or when the host was first asked. ``idle``: card -> since
    when it is held and does nothing. ``problem``: why nothing newer is known."""

    host: str
    seen: HostSeen | None = None
    at: float = 0.0
    idle: dict[int, float] = {}
    problem: str = ""


class RunLine(msgspec.Struct, frozen=True, kw_only=True):
    """``heard``: when its controller was last at work, wall clock. ``last``: the last line of rank 0."""

    run: str
    status: Standing
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


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line, and what it is about. Two ``cells`` are a host and something that is said of it."""

    host: str
    cells: tuple[str, ...]
    style: str = ""
    gpu: int | None = None
    job: Job | None = None
    own: int = 0
    """So many cells at the end are the row's own; those before are the same in all rows of a card."""

    def holds(self, text: str) -> bool:
        """Whether a filter for ``text`` shows it."""
        words = (harmless(self.host), *self.cells)
        if self.job is not None:
            words = (*words, harmless(self.job.user), str(self.job.pid), harmless(self.job.command))
        return text.lower() in " ".join(words).lower()


_NARROW_HEAD = ("host", "dev", "use", "memory", "°C", "W", "user", "run rank, or command")
_WIDE_HEAD = ("host", "dev", "name", "use", "memory", "°C", "W", "user", "pid", "for", "run rank, or command")
RIGHT = ("use", "memory", "°C", "W", "pid", "for")


def is_wide(width: int) -> bool:
    """Whether so many columns are enough for all there is to say of a card."""
    return width >= _WIDE


def head(*, wide: bool) -> tuple[str, ...]:
    return _WIDE_HEAD if wide else _NARROW_HEAD


def rows(overview: Overview, *, wide: bool, only: str = "") -> list[Row]:
    """A row for each card and job; one for a host without cards, or without an answer. ``only``: those that
    hold this text, and then all jobs of a card."""
    found: list[Row] = []
    for line in overview.hosts:
        each = _host(line, overview.now, wide=wide, most=1 << 30 if only else _MOST_JOBS)
        found += (row for row in each if row.holds(only)) if only else each
    return found


def summary(overview: Overview) -> str:
    """How many cards are free, held idle, at work; and hosts that told nothing."""
    told = [(line, line.seen.gpus or ()) for line in overview.hosts if line.seen]
    cards = [(line, index, gpu) for line, gpus in told for index, gpu in enumerate(gpus)]
    silent = sum(line.seen is None or _is_silent(line, overview.now) for line in overview.hosts)
    parts = [_count(len(overview.hosts), "host")]
    if cards:
        free = sum(_is_free(line, index, gpu, overview.now) for line, index, gpu in cards)
        since = [line.idle[index] for line, index, _ in cards if index in line.idle]
        idle = sum(overview.now - each >= _TELL_IDLE for each in since)
        parts += [_count(len(cards), "GPU"), f"{free} free"]
        parts += [f"{idle} held and idle"] if idle else []
    if silent:
        parts.append(f"{silent} without an answer")
    return ", ".join(parts)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _host(line: HostLine, now: float, *, wide: bool, most: int) -> Iterator[Row]:
    if line.seen is None:
        waited = f" in {span(now - line.at)}" if 0 < line.at <= now - 1 else ""
        yield _odd(line, line.problem or f"no answer yet{waited}", bad=bool(line.problem))
        return
    seen = line.seen
    if _is_silent(line, now):
        why = line.problem or "nothing new"
        yield _odd(line, f"{why}; last heard {span(max(0.0, now - line.at))} ago", bad=True)
    if seen.gpus:
        for index, gpu in enumerate(seen.gpus):
            if gpu is None:
                yield _odd(line, f"GPU {index} is lost", bad=True, gpu=index)
            else:
                yield from _card(line, seen, index, gpu, now, wide=wide, most=most)
        return
    if seen.driver == "asked":
        yield _odd(line, "the GPUs' driver does not answer", bad=True)
    used = memory(seen.memory, seen.memory_total)
    cores = f"{seen.cores or UNKNOWN} cores"
    left = ("cpu", *((cores,) if wide else ()), share(seen.cpu), used, UNKNOWN, UNKNOWN)
    yield from _with_jobs(line, left, seen.jobs, now, wide=wide, most=most)


def _card(
    line: HostLine, seen: HostSeen, index: int, gpu: GpuSeen, now: float, *, wide: bool, most: int
) -> Iterator[Row]:
    left = (str(index), *((model(gpu),) if wide else ()), share(gpu.use), memory(gpu.memory, gpu.total))
    left += (number(gpu.temperature), number(gpu.watts))
    jobs = tuple(job for job in seen.jobs if job.gpu == index)
    since = line.idle.get(index)
    state = "free" if _is_free(line, index, gpu, now) else ""
    if since is not None and now - since >= _TELL_IDLE:
        state = f"idle {span(now - since)}"
    yield from _with_jobs(line, left, jobs, now, wide=wide, most=most, gpu=index, state=state)


def _is_silent(line: HostLine, now: float) -> bool:
    """Whether what it has said may not be so any more."""
    return bool(line.problem) or now - line.at > _LATE


def _is_free(line: HostLine, index: int, gpu: GpuSeen | None, now: float) -> bool:
    if gpu is None or gpu.use is None or gpu.memory is None or not gpu.total or _is_silent(line, now):
        return False
    held = any(job.gpu == index for job in (line.seen.jobs if line.seen else ()))
    return not held and gpu.use <= _FREE_USE and gpu.memory <= _FREE_MEMORY * gpu.total


def _with_jobs(
    line: HostLine,
    left: tuple[str, ...],
    jobs: tuple[Job, ...],
    now: float,
    *,
    wide: bool,
    most: int,
    gpu: int | None = None,
    state: str = "",
) -> Iterator[Row]:
    """``state``: free, or since when it is idle."""
    left = (harmless(line.host), *left)
    style = "green" if state == "free" else "yellow" if state else ""
    own = 4 if wide else 2
    if not jobs:
        cells = (*left, *("",) * (own - 1), state)
        yield Row(host=line.host, gpu=gpu, cells=cells, style=style, own=own)
    for job in jobs[:most]:
        since = "" if job.since is None else span(max(0.0, now - job.since))
        more = (harmless(job.user), str(job.pid), since) if wide else (harmless(job.user),)
        cells = (*left, *more, f"{state}  {_work(job)}".strip())
        yield Row(host=line.host, gpu=gpu, job=job, cells=cells, style=style, own=own)
    if len(jobs) > most:
        cells = (*left, *("",) * (own - 1), f"and {len(jobs) - most} more")
        yield Row(host=line.host, gpu=gpu, cells=cells, style="dim", own=own)


def _work(job: Job) -> str:
    words = harmless(job.command).split()
    program = posixpath.basename(words[0]) if words else ""
    script = next((posixpath.basename(word) for word in words[1:] if not word.startswith("-")), "")
    command = f"{program} {script}".strip()
    if not job.run:
        return command
    rank = f" rank {job.rank}" if job.rank is not None else ""
    return f"{harmless(job.run)}{rank}  {script or program}"


def _odd(line: HostLine, text: str, *, bad: bool, gpu: int | None = None) -> Row:
    cells = (harmless(line.host), " ".join(harmless(text).split()))
    return Row(host=line.host, gpu=gpu, cells=cells, style="red" if bad else "dim")


def share(value: float | None) -> str:
    """In percent; what is unknown is never 0, here and below."""
    return UNKNOWN if value is None else f"{value:.0%}"


def number(value: int | None) -> str:
    """A whole number, as it is."""
    return UNKNOWN if value is None else str(value)


def memory(used: int | None, total: int | None) -> str:
    """Bytes, as far as they are known."""
    if used is None:
        return UNKNOWN
    gib = 1024**3
    return f"{used / gib:.1f}" + (f"/{total / gib:.0f}G" if total else "G")


def model(gpu: GpuSeen) -> str:
    """Its name, short enough for a column."""
    return harmless(gpu.name or UNKNOWN).removeprefix("NVIDIA ")[:20]
