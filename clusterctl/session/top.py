"""What hosts do now, and how far their runs are: kept up to date for as long as somebody looks."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

import msgspec

from clusterctl.ask.top import TopWatch
from clusterctl.errors import ClusterctlError, UsageError, in_words
from clusterctl.messages.top import HostSeen
from clusterctl.report.harmless import last_state, plain_output
from clusterctl.report.pace import Pace, pace
from clusterctl.report.top import HostLine, Overview, RunLine
from clusterctl.store.metrics import newest_steps
from clusterctl.store.runs import RunDirectory, all_runs
from clusterctl.transport import Transport

_IDLE = 0.01
_READ = 8192
_HELD = 256 << 20
"""Bytes: a driver's own needs are less."""


class News(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a recording: what a host did, or why nothing is known of it."""

    at: float
    host: str
    seen: HostSeen | None = None
    problem: str = ""


class Looking:
    """Takes what hosts say, and tells how they stand."""

    def __init__(self, hosts: Sequence[str]) -> None:
        self._hosts: dict[str, HostLine] = {host: HostLine(host=host) for host in hosts}
        self._idle: dict[tuple[str, int], float] = {}

    def hear(self, news: News) -> None:
        if news.seen is None:
            known = self._hosts.get(news.host, HostLine(host=news.host))
            self._hosts[news.host] = msgspec.structs.replace(known, problem=news.problem)
            return
        idle = self._idle_since(news.host, news.seen, news.at)
        self._hosts[news.host] = HostLine(host=news.host, seen=news.seen, at=news.at, idle=idle)

    def _idle_since(self, host: str, seen: HostSeen, at: float) -> dict[int, float]:
        """Card -> since when it is held and does nothing. A sample that tells nothing ends that as work does:
        it is only said of what was seen all the time."""
        for index, gpu in enumerate(seen.gpus or ()):
            held = gpu is not None and (gpu.memory or 0) > _HELD
            if held and gpu is not None and gpu.use is not None and gpu.use <= _IDLE:
                self._idle.setdefault((host, index), at)
            else:
                self._idle.pop((host, index), None)
        if seen.gpus is None:
            self._idle = {key: since for key, since in self._idle.items() if key[0] != host}
        return {index: since for (each, index), since in self._idle.items() if each == host}

    @property
    def settled(self) -> bool:
        """Whether every host has said something, or is known to be lost."""
        return all(line.seen is not None or line.problem for line in self._hosts.values())

    def overview(self, runs: Sequence[RunLine], now: float) -> Overview:
        return Overview(hosts=tuple(self._hosts.values()), runs=tuple(runs), now=now)


def watched(transport: Transport, hosts: Sequence[str], every: float) -> Generator[News | None, None, None]:
    """What hosts say, as it comes; None at least once a second, so that somebody may look. To be closed."""
    watch = TopWatch(transport, hosts, every)
    try:
        while True:
            for host, told in watch.news(min(1.0, every)):
                if isinstance(told, HostSeen):
                    yield News(at=time.time(), host=host, seen=told)
                else:
                    yield News(at=time.time(), host=host, problem=told)
            yield None
    finally:
        watch.close()


def runs_here(only: str = "") -> list[RunLine]:
    """Runs of this machine that go on, or the one named, as far as their directories say."""
    found = []
    for directory in all_runs():
        try:
            if directory.run == only or (not only and directory.running()):
                found.append(_run_line(directory))
        except (ClusterctlError, OSError):
            continue  # removed meanwhile, or another version's
    return found


def _run_line(directory: RunDirectory) -> RunLine:
    plan, outcome = directory.plan(), directory.outcome()
    steps = newest_steps(directory.path)
    losses = [step.loss for step in steps if step.loss is not None]
    come: Pace | None = pace(steps)
    heard = (directory.path / "supervisor.json").stat().st_mtime
    log = directory.host_logs(plan.nodes[0].host) / plan.log_of(0)
    return RunLine(
        run=plan.run,
        status=outcome.status if outcome else "running" if directory.supervised() else "interrupted",
        ranks=plan.world_size,
        hosts=len(plan.nodes),
        pace=come,
        losses=tuple(losses),
        heard=heard,
        last=_last_line(log),
    )


def _last_line(log: Path) -> str:
    """What a log ends with, in the last state of a line that a progress bar rewrites; empty where there is
    none."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, stream.seek(0, 2) - _READ))
            lines = stream.read().splitlines()
    except OSError:
        return ""
    told = (plain_output(last_state(line), colours=False).strip() for line in reversed(lines))
    return next((line for line in told if line), "")


def write_news(news: News) -> str:
    """A line of a recording, with its end."""
    return msgspec.json.encode(news).decode() + "\n"


def read_news(path: Path) -> Iterator[News]:
    """Those of a recording. Raises UsageError where it is none, with the line."""
    try:
        with path.open("rb") as stream:
            for number, line in enumerate(stream, 1):
                if not line.endswith(b"\n"):
                    return  # it is being written
                try:
                    yield msgspec.json.decode(line, type=News)
                except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                    raise UsageError(
                        f"{path} line {number} is no recording of top: {in_words(error)}",
                        hint="clusterctl top --record FILE makes one",
                    ) from error
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror}", hint="name a file of top --record"
        ) from error
