"""Logs and events of all hosts, onto this machine's disk. For the thread of `recorder`: every call may wait.

A disk that takes nothing (full, gone, no descriptors) costs no run: the nodes hold every byte until they are
told to forget it. What could not be written is fetched again once the disk takes something. What a host has
cut out of a log goes out of it here, too.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from clusterctl.messages.relay import Fingerprint, LogCut, LogPiece
from clusterctl.store.log_files import WHOLE, Cut, head_of
from clusterctl.store.runs import RunDirectory

_PAUSE = 5.0
_LONGEST_PAUSE = 60.0
_ROOM = b"\0" * (256 * 1024)
_SLACK = 1 << 30
"""What a log may grow by, beyond twice its limit, until its host has cut it."""


class _Log:
    """One log as far as it is here without a gap, and its hash where all of that came from its host now."""

    def __init__(self, size: int = 0, cut: Cut = WHOLE) -> None:
        self.size = size
        self.cut = cut
        self._hash = hashlib.sha256() if size == 0 else None

    def add(self, offset: int, data: bytes) -> None:
        """These bytes are on the disk; ``offset`` is not beyond the end."""
        fresh = data[self.size - offset :]
        self.size += len(fresh)
        if self._hash is not None:
            self._hash.update(fresh)

    def cut_out(self, cut: Cut) -> None:
        """That is not on the disk any more."""
        self.cut, self._hash = cut, None
        self.size = max(self.size, cut.resume)

    @property
    def fingerprint(self) -> Fingerprint | None:
        """Without reading it; None where that cannot be."""
        return None if self._hash is None else Fingerprint(size=self.size, sha256=self._hash.hexdigest())


class LogCollector:
    """What has arrived, host by host. Only `offsets` may be called from other threads."""

    def __init__(
        self,
        directory: RunDirectory,
        say: Callable[[str], None],
        *,
        limit: int = 0,
        on_block: Callable[[], None] = lambda: None,
    ) -> None:
        """``say`` is told, once each, that the disk takes nothing and that it does again. ``limit``: of bytes
        in one log; 0 for none. ``on_block`` is called while much is read or written."""
        self.behind: set[str] = set()
        """Hosts whose logs must be fetched again: something of them was dropped."""
        self.trouble = ""
        """Why this machine's disk takes nothing at the moment."""
        self._directory = directory
        self._say = say
        self._limit = limit
        self._on_block = on_block
        self._unwritten: list[Mapping[str, Any]] = []
        self._lock = threading.Lock()
        self._logs: dict[str, dict[str, _Log]] = {}
        self._told: dict[str, dict[str, Fingerprint]] = {}
        self._retry_at = 0.0
        self._pause = _PAUSE

    def resume(self, hosts: Sequence[str]) -> None:
        """Go on with what another process has collected."""
        for host in hosts:
            logs: dict[str, _Log] = {}
            with contextlib.suppress(OSError):  # said when something is to be written there
                logs = self._logs_on_disk(host)
            with self._lock:
                self._logs[host] = logs

    def offsets(self, host: str) -> dict[str, int]:
        """Where a new session with this host goes on, by file name. Asks no disk."""
        with self._lock:
            self.behind.discard(host)
            return {name: log.size for name, log in self._logs.get(host, {}).items()}

    def take(self, host: str, piece: LogPiece, now: float) -> None:
        """Write bytes of a log, or drop them where the host is behind. A piece that would leave a gap comes
        from before its last session, which brings it again."""
        with self._lock:
            log = self._logs.setdefault(host, {}).setdefault(piece.name, _Log())
            if host in self.behind or piece.offset > log.size:
                return
        if self._limit and log.cut.place(piece.offset) > 2 * self._limit + _SLACK:
            self._drop(host, f"{host}: {piece.name} is far beyond its limit and is not cut: it is left there")
            return
        try:
            self._directory.append_log(host, piece.name, piece.offset, piece.data, log.cut)
        except OSError as error:
            self._drop(host)
            self._complain(error, now)
            return
        with self._lock:
            log.add(piece.offset, piece.data)

    def cut(self, host: str, piece: LogCut, now: float) -> None:
        """Take out of a log what its host does not have any more either."""
        with self._lock:
            log = self._logs.setdefault(host, {}).setdefault(piece.name, _Log())
        cut = Cut(piece.head, piece.resume)
        meant = self._limit and cut.head == head_of(self._limit) <= log.size and cut.resume > log.cut.resume
        if not meant or host in self.behind:
            return
        if not log.cut.resume:
            self._say(f"{host}: {piece.name} is longer than --log-limit: its middle is cut out")
        try:
            self._directory.cut_log(host, piece.name, log.cut, cut, self._on_block)
        except OSError as error:
            self._drop(host)
            self._complain(error, now)
            return
        with self._lock:
            log.cut_out(cut)

    def record(self, event: Mapping[str, Any], now: float) -> None:
        """One line of ``events.jsonl``, in order, now or when the disk takes it."""
        self._unwritten.append(event)
        if not self.trouble:
            self._write_events(now)

    def complete(self, host: str, told: dict[str, Fingerprint]) -> None:
        """What the host says its logs are."""
        self._told[host] = told

    def retry(self, now: float) -> frozenset[str]:
        """After trouble, look whether the disk takes something again: hosts to be fetched from again."""
        if not self.trouble or now < self._retry_at:
            return frozenset()
        probe = self._directory.path / ".room"
        try:
            probe.write_bytes(_ROOM)
            probe.unlink()
            self.trouble = ""
            self._write_events(now)
            behind = frozenset(self.behind)
            for host in behind:
                self._forget_what_is_gone(host)
        except OSError as error:
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
            self._complain(error, now)
        if self.trouble:
            return frozenset()
        self._pause = _PAUSE
        self._say("this machine's disk takes logs again: fetching what is missing")
        return behind

    def incomplete(self, hosts: Sequence[str], on_block: Callable[[], None]) -> tuple[str, ...]:
        """Hosts whose logs here differ in size or hash from what they say they wrote. A log is read only
        where part of it was here before: that takes its time, and ``on_block`` is called meanwhile."""
        return tuple(host for host in hosts if not self._is_whole(host, on_block))

    def cut_out(self) -> dict[str, int]:
        """Bytes that were cut out of each log that was too long, by its path in the run's logs."""
        return {
            f"{host}/{name}": log.cut.resume - log.cut.head
            for host, logs in self._logs.items()
            for name, log in logs.items()
            if log.cut.resume
        }

    def _drop(self, host: str, why: str = "") -> None:
        """Take nothing more of a host's logs."""
        with self._lock:
            self.behind.add(host)
        if why:
            self._say(why)

    def _logs_on_disk(self, host: str) -> dict[str, _Log]:
        head = head_of(self._limit)
        found = {}
        for name, size in self._directory.offsets(host).items():
            cut = self._directory.log_cut(host, name, head) if size > head else WHOLE
            found[name] = _Log(cut.size(size), cut)
        return found

    def _forget_what_is_gone(self, host: str) -> None:
        """A disk that failed may have lost what it had taken."""
        logs = self._logs_on_disk(host)
        with self._lock:
            for name, log in self._logs[host].items():
                there = logs.get(name) or _Log()
                if there.size < log.size or there.cut != log.cut:
                    self._logs[host][name] = there

    def _is_whole(self, host: str, on_block: Callable[[], None]) -> bool:
        told = self._told.get(host)
        if told is None or host in self.behind:
            return False
        try:
            sizes = self._directory.offsets(host)
            return all(
                self._fingerprint(host, name, sizes.get(name), on_block) == mark
                for name, mark in told.items()
                if mark.size
            )
        except OSError:
            return False

    def _fingerprint(
        self, host: str, name: str, size: int | None, on_block: Callable[[], None]
    ) -> Fingerprint | None:
        log = self._logs.get(host, {}).get(name) or _Log()
        if log.size == size and log.fingerprint is not None:
            return log.fingerprint
        read = self._directory.log_fingerprint(host, name, on_block, log.cut)
        return None if read is None else Fingerprint(**read)

    def _write_events(self, now: float) -> None:
        while self._unwritten:
            try:
                self._directory.append_event(self._unwritten[0])
            except OSError as error:
                self._complain(error, now)
                return
            self._unwritten.pop(0)

    def _complain(self, error: OSError, now: float) -> None:
        if not self.trouble:
            self._say(
                f"this machine cannot write to {self._directory.path} ({error.strerror or error}); "
                "the run goes on, the hosts keep its logs until it can"
            )
        self.trouble = str(error)
        self._retry_at = now + self._pause
