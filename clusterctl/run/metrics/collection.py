"""Reads what has come of the ranks' metrics and writes ``metrics.jsonl``. For the thread of `recorder`.

Nothing that a rank writes there may cost the run more than a line on the screen.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

from clusterctl.plan.model import LaunchPlan, attempt_suffix
from clusterctl.run.metrics.log_shapes import LogReader
from clusterctl.run.metrics.merge import Merger
from clusterctl.run.metrics.record import LONGEST, Told, parse
from clusterctl.run.metrics.tensorboard import EventFile
from clusterctl.store.log_tail import LogTail
from clusterctl.store.metrics import METRICS
from clusterctl.store.runs import RunDirectory
from clusterctl.store.step import decode, encode

_AT_ONCE = 0.1
"""Seconds that one look may take of the thread."""
_AT_THE_END = 10.0
"""When nothing more comes."""
_AT_A_TIME = 200
_BLOCK = 1 << 16
_FAR_BEHIND = 1 << 20
_NEWEST_LINES = 200
_MOST_OF_A_RANK = 1 << 28
_MOST = 1 << 30
_SHOWN = 60


class _Rank:
    """One rank's file as far as it has been read."""

    def __init__(self, rank: int, host: str, path: Path, limit: int) -> None:
        self.rank = rank
        self.host = host
        self.path = path
        self.garbage = b""
        self.position = -1
        """The last step it told of,"""
        self.read = 0
        """and the bytes that it told all in."""
        self._tail = LogTail(path, limit, block=_BLOCK)
        self._rest = b""
        self._skipping = False

    def lines(self) -> list[bytes] | None:
        """Those in the next block; None when there is nothing more."""
        for data in self._tail.news():
            self.read += len(data)
            *whole, self._rest = (self._rest + data).split(b"\n")
            if self._skipping and whole:
                del whole[0]
                self._skipping = False
            if len(self._rest) > LONGEST:
                self.garbage = self.garbage or self._rest[:_SHOWN]
                self._rest, self._skipping = b"", True
            return whole
        return None

    def last(self) -> list[bytes]:
        """What never got the end of its line."""
        rest, self._rest = self._rest, b""
        return [rest] if rest and not self._skipping else []


class _Log:
    """What a rank prints, for as long as it tells nothing by itself. Of a flood, the newest is read."""

    def __init__(self, path: Path, limit: int) -> None:
        self._path = path
        self._limit = limit
        self._tail = LogTail(path, limit)
        self._reader = LogReader()

    def steps(self) -> list[tuple[Told, str]] | None:
        """Those in the next block; None when there is nothing more."""
        if self._tail.behind > _FAR_BEHIND:
            self._tail = LogTail(self._path, self._limit, lines=_NEWEST_LINES)
        for data in self._tail.news():
            return list(self._reader.read(data))
        return None


class RunMetrics:
    """Of one attempt. Begins anew with what is there: all that was written before of this attempt is written
    again, from the same files."""

    def __init__(self, directory: RunDirectory, plan: LaunchPlan, say: Callable[[str], None]) -> None:
        hosts = {rank: node.host for node in plan.nodes for rank in node.ranks}
        self._directory = directory
        self._path = directory.path / METRICS
        self._attempt = plan.attempt
        self._say = say
        self._merger = Merger(plan.attempt, hosts)
        self._ranks = {
            (host, plan.metrics_of(rank)): _Rank(
                rank, host, directory.host_logs(host) / plan.metrics_of(rank), plan.log_limit
            )
            for rank, host in hosts.items()
        }
        self._grown = set(self._ranks)
        self._logs = {
            (host, plan.log_of(rank)): (
                self._ranks[host, plan.metrics_of(rank)],
                _Log(directory.host_logs(host) / plan.log_of(rank), plan.log_limit),
            )
            for rank, host in hosts.items()
        }
        self._printed = set(self._logs)
        self._samples = plan.samples
        self._sampled: set[str] = set()
        self._backlog = True
        self._broken = False
        self._told: set[str] = set()
        self._events = EventFile(directory.path, plan.attempt)
        self._unwritten = bytearray()
        self._size: int | None = None

    def grew(self, host: str, name: str) -> None:
        """Bytes of a log of this host are on the disk."""
        if (host, name) in self._ranks:
            self._grown.add((host, name))
        elif (host, name) in self._logs:
            self._printed.add((host, name))
        elif name == self._samples:
            self._sampled.add(host)

    def look(self, *, over: bool = False, on_block: Callable[[], None] = lambda: None) -> None:
        """Read on for a moment, or where nothing more comes (``over``) to the end, and write what is known.
        A disk that refuses is asked again."""
        if self._broken:
            return
        try:
            with contextlib.suppress(OSError):
                self._look(over, on_block)
        except Exception as error:  # noqa: BLE001 - curves are not worth a run
            self._broken = True
            self._say(f"metrics are read no further: {type(error).__name__}: {error}")

    def _look(self, over: bool, on_block: Callable[[], None]) -> None:
        until = time.monotonic() + (_AT_THE_END if over else _AT_ONCE)
        self._link_samples()
        current = self._tell(until, on_block)
        while current and self._read_block():
            on_block()
            current = self._tell(until, on_block) and time.monotonic() < until
        self._read_logs(max(until, time.monotonic() + _AT_ONCE), on_block)
        self._backlog = self._backlog and bool(self._grown)
        for rank in self._ranks.values() if over else ():
            self._take(rank, rank.last())
        current = self._tell(until, on_block, over=over)
        if over and (self._grown or not current):
            self._say_once("end", f"{METRICS} leaves out the last steps: ranks tell more than can be read")
        if self._merger.late:
            self._say_once("late", f"{METRICS} leaves out what ranks tell of steps that were over long ago")

    def _tell(self, until: float, on_block: Callable[[], None], *, over: bool = False) -> bool:
        """Write what the merger knows, a part at a time; False when there was no time for all of it."""
        while True:
            steps = self._merger.lines(time.monotonic(), _AT_A_TIME, over=over)
            self._unwritten += b"".join(map(encode, steps))
            if self._unwritten and self._write():
                self._events.add(steps)
            if len(steps) < _AT_A_TIME:
                return True
            on_block()
            if time.monotonic() > until:
                return False

    def _read_block(self) -> bool:
        """Of the rank whose steps are farthest behind, so that few steps are open; False where nobody has
        more."""
        while self._grown:
            key = min(self._grown, key=lambda key: (self._ranks[key].position, key))
            rank = self._ranks[key]
            lines = rank.lines() if rank.read <= _MOST_OF_A_RANK else None
            if lines is not None:
                self._take(rank, lines)
                return True
            if rank.read > _MOST_OF_A_RANK:
                self._say_once("much", f"{rank.host}: rank {rank.rank} tells too much: it is read no further")
            self._grown.discard(key)
        return False

    def _read_logs(self, until: float, on_block: Callable[[], None]) -> None:
        for key in sorted(self._printed):
            rank, log = self._logs[key]
            while not rank.read:
                if time.monotonic() > until:
                    return
                found = log.steps()
                if found is None:
                    break
                on_block()
                came = None if self._backlog else time.time()
                for told, kind in found:
                    self._merger.take(rank.rank, told, time.monotonic(), came=came, source=kind)
            self._printed.discard(key)

    def _take(self, rank: _Rank, lines: list[bytes]) -> None:
        now, came = time.monotonic(), None if self._backlog else time.time()
        steps = set()
        for line in lines:
            told = parse(line)
            if told is not None:
                steps.add(told.step)
                self._merger.take(rank.rank, told, now, came=came)
            elif line.strip():
                rank.garbage = rank.garbage or line[:_SHOWN]
        if rank.garbage:
            shown = rank.garbage.decode(errors="replace")
            self._say_once(
                "garbage", f"{rank.host}: rank {rank.rank} writes metrics that tell of no step: {shown}"
            )
        # Who tells of no step has had its turn all the same.
        rank.position = max(steps or (each.position + 1 for each in self._ranks.values()))
        if lines:
            self._link(rank.path, f"metrics/rank{rank.rank}{attempt_suffix(self._attempt)}.jsonl")

    def _link_samples(self) -> None:
        while self._sampled:
            logs = self._directory.host_logs(self._sampled.pop())
            name = f"samples/{logs.name}{attempt_suffix(self._attempt)}.ndjson"
            self._link(logs / self._samples, name)

    def _link(self, path: Path, name: str) -> None:
        """The file lies among its host's logs, and can be found by what it is of. Raises OSError."""
        link = self._directory.path / name
        if not link.is_symlink():
            link.parent.mkdir(mode=0o700, exist_ok=True)
            link.symlink_to(os.path.relpath(path, link.parent))

    def _write(self) -> bool:
        """False once there is too much. Raises OSError."""
        if self._size is None:
            self._size = self._begin()
        if self._size > _MOST:
            self._say_once("full", f"{METRICS} has {_MOST >> 20} MiB: it grows no further")
            self._unwritten.clear()
            return False
        target = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            while self._unwritten:
                written = os.write(target, self._unwritten)
                self._size += written
                del self._unwritten[:written]
        finally:
            os.close(target)
        return True

    def _begin(self) -> int:
        """The lines of other attempts stay. How long the file is then."""
        try:
            with self._path.open("rb") as stream:
                before = stream.read()
        except FileNotFoundError:
            return 0
        kept = b"".join(
            line
            for line in before.splitlines(keepends=True)
            if line.endswith(b"\n") and (step := decode(line)) is not None and step.attempt != self._attempt
        )
        if kept != before:
            self._directory.write_bytes(METRICS, kept)
        return len(kept)

    def _say_once(self, what: str, text: str) -> None:
        if what not in self._told:
            self._told.add(what)
            self._say(text)
