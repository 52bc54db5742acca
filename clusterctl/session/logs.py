"""Which logs of a run somebody wants, and what they hold, log by log or by time."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path

import msgspec

from clusterctl.errors import UsageError
from clusterctl.inventory.fold import fold
from clusterctl.plan.model import LaunchPlan
from clusterctl.report.harmless import last_state
from clusterctl.session.intent import clock_offsets
from clusterctl.store.log_tail import LogTail
from clusterctl.store.log_times import HostTimes, Times
from clusterctl.store.runs import RunDirectory
from clusterctl.store.timed_logs import Piece, TimedLog, TimedLogs

_LAUNCHER = "launcher"
_LONGEST = 1 << 20


class Log(msgspec.Struct, frozen=True):
    """One file; ``times`` tells of its times, as the log of ``rank``, None for an agent's."""

    host: str
    path: Path
    rank: int | None = None
    times: Path | None = None


def plans(directory: RunDirectory, newest: LaunchPlan, attempt: str) -> list[LaunchPlan]:
    """Of the attempts asked for, oldest first: a number, ``all``, or nothing for the newest. Raises
    UsageError."""
    if not attempt:
        return [newest]
    known = range(1, newest.attempt + 1)
    if attempt != "all" and attempt not in map(str, known):
        raise UsageError(
            f"run {newest.run} has no attempt {attempt}",
            hint=f"1 to {newest.attempt}, or all" if newest.attempt > 1 else "it has only one",
        )
    return [directory.plan(each) for each in known if attempt in ("all", str(each))]


def choose(
    directory: RunDirectory, plan: LaunchPlan, host: str, rank: int | None, *, agent: bool
) -> list[Log]:
    """Those asked for, in rank order. Raises UsageError for what is not in the run."""
    hosts = [node.host for node in plan.nodes]
    if host and host not in hosts:
        raise UsageError(f"{host} took no part in run {plan.run}", hint=f"its hosts: {fold(hosts)}")
    if rank is not None and not 0 <= rank < plan.world_size:
        raise UsageError(
            f"run {plan.run} has no rank {rank}", hint=f"its ranks are 0 to {plan.world_size - 1}"
        )
    if rank is not None and host and plan.node_of(rank).host != host:
        raise UsageError(f"rank {rank} did not run on {host}", hint=f"it ran on {plan.node_of(rank).host}")
    found = []
    if agent and not host:
        found.append(Log(_LAUNCHER, directory.logs / plan.launcher_log))
    for node in plan.nodes:
        if host in ("", node.host) and (rank is None or rank in node.ranks):
            folder = directory.host_logs(node.host)
            times = folder / plan.times
            if agent:
                found.append(Log(node.host, folder / plan.agent_log, None, times))
            wanted = [each for each in node.ranks if rank in (None, each)]
            found += [Log(node.host, folder / plan.log_of(each), each, times) for each in wanted]
    return found


class Reading:
    """Logs read to their present end, and on as they grow; meanwhile each of more than ``limit`` bytes may
    lose its middle. ``lines``: of those that are there at the first look only the last so many."""

    def __init__(self, logs: Sequence[Log], limit: int, *, lines: int | None = None) -> None:
        self._limit = limit
        self._tails = [(log.host, LogTail(log.path, limit, lines=lines)) for log in logs]

    def add(self, logs: Sequence[Log]) -> None:
        """Those of an attempt that has begun since."""
        self._tails += [(log.host, LogTail(log.path, self._limit)) for log in logs]

    def news(self, *, over: bool) -> Iterator[Piece]:
        """What has come since, log by log. Raises OSError."""
        del over
        for host, log in self._tails:
            for data in log.news():
                yield Piece(0.0, None, host, log.path.name, data)


class ReadingByTime:
    """The same in the order of time, whole lines only."""

    def __init__(
        self,
        directory: RunDirectory,
        logs: Sequence[Log],
        limit: int,
        *,
        lines: int | None = None,
        since: float | None = None,
    ) -> None:
        """``since``: only lines that came then or later. Raises UsageError for a run whose hosts told of no
        times, ClusterctlError where this cannot be read."""
        self._limit = limit
        self._since = since
        self._ahead = clock_offsets(directory)
        self._times: dict[Path, HostTimes] = {}
        timed = [log.times for log in logs if log.times is not None]
        if directory.outcome() is not None and not any(path.is_file() for path in timed):
            raise UsageError(
                f"nothing is known of when the lines of run {directory.run} came",
                hint="its hosts told no times: it printed nothing, or an earlier clusterctl launched it",
            )
        self._logs: list[TimedLog] = []
        self._add(logs, lines)

    def add(self, logs: Sequence[Log]) -> None:
        """Those of an attempt that has begun since."""
        self._add(logs, None)

    def news(self, *, over: bool) -> Iterator[Piece]:
        """What has come since, as far as it is known by when; once nothing follows any more, ``over``, all of
        it. Raises OSError."""
        return TimedLogs(self._logs, list(self._times.values())).news(over=over)

    def _add(self, logs: Sequence[Log], lines: int | None) -> None:
        for log in logs:
            times = Times() if log.times is None else self._host(log.host, log.times).of(log.rank)
            self._logs.append(
                TimedLog(log.host, log.path, self._limit, times, lines=lines, since=self._since)
            )

    def _host(self, host: str, path: Path) -> HostTimes:
        if path not in self._times:
            self._times[path] = HostTimes(path, self._ahead.get(host, 0.0))
        return self._times[path]


class Matching:
    """Lines that match a regular expression, of pieces that need not end with a line."""

    def __init__(self, pattern: str) -> None:
        """Raises UsageError for what is none."""
        try:
            # Bytes are matched four times as fast as text; only what is not ASCII differs.
            self._bytes = re.compile(pattern.encode()) if pattern.isascii() else None
            self._text = re.compile(pattern)
        except (re.error, OverflowError, RecursionError) as error:
            raise UsageError(
                f"--grep {pattern!r} is no regular expression: {error}",
                hint="write signs that mean themselves behind a \\: 'step \\[10\\]'",
            ) from None

    def among(self, pieces: Iterator[Piece]) -> Iterator[Piece]:
        """What matches of each piece. A line longer than a megabyte is taken for several."""
        rest: dict[tuple[str, str], Piece] = {}
        for piece in pieces:
            begun = rest.pop((piece.host, piece.name), None)
            whole = begun.data + piece.data if begun else piece.data
            end = whole.rfind(b"\n") + 1
            if len(whole) - end > _LONGEST:
                end = len(whole)
            if end < len(whole):
                rest[piece.host, piece.name] = piece._replace(data=whole[end:])
            if found := self._of(whole[:end]):
                yield piece._replace(data=found)
        for piece in rest.values():  # lines that never got their end
            if found := self._of(piece.data):
                yield piece._replace(data=found)

    def _of(self, data: bytes) -> bytes:
        return b"".join(line for line in BytesIO(data) if self._matches(line))

    def _matches(self, line: bytes) -> bool:
        shown = last_state(line.rstrip(b"\n"))  # of a progress bar what is seen of it
        if self._bytes is not None:
            return self._bytes.search(shown) is not None
        return self._text.search(shown.decode("utf-8", "replace")) is not None
