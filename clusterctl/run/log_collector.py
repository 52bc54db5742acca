"""Logs and events of all hosts, onto this machine's disk. For the thread of `recorder`: every call may wait.

A disk that takes nothing (full, gone, no descriptors) costs no run: the nodes hold every byte until they are
told to forget it. What could not be written is fetched again once the disk takes something.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from clusterctl.messages.relay import Fingerprint, LogPiece
from clusterctl.store.runs import RunDirectory

_PAUSE = 5.0
_LONGEST_PAUSE = 60.0
_ROOM = b"\0" * (256 * 1024)


class _Log:
    """One log as far as it is here without a gap, and its hash where all of that came from its host now."""

    def __init__(self, size: int = 0) -> None:
        self.size = size
        self._hash = hashlib.sha256() if size == 0 else None

    def add(self, offset: int, data: bytes) -> None:
        """These bytes are on the disk; ``offset`` is not beyond the end."""
        fresh = data[self.size - offset :]
        self.size += len(fresh)
        if self._hash is not None:
            self._hash.update(fresh)

    @property
    def fingerprint(self) -> Fingerprint | None:
        return None if self._hash is None else Fingerprint(size=self.size, sha256=self._hash.hexdigest())


class LogCollector:
    """What has arrived, host by host. Only `offsets` may be called from other threads."""

    def __init__(self, directory: RunDirectory, say: Callable[[str], None]) -> None:
        """``say`` is told, once each, that the disk takes nothing and that it does again."""
        self.behind: set[str] = set()
        """Hosts whose logs must be fetched again: something of them was dropped."""
        self.trouble = ""
        """Why this machine's disk takes nothing at the moment."""
        self._directory = directory
        self._say = say
        self._unwritten: list[Mapping[str, Any]] = []
        self._lock = threading.Lock()
        self._logs: dict[str, dict[str, _Log]] = {}
        self._told: dict[str, dict[str, Fingerprint]] = {}
        self._retry_at = 0.0
        self._pause = _PAUSE

    def resume(self, hosts: Sequence[str]) -> None:
        """Go on with what another process has collected."""
        for host in hosts:
            sizes: dict[str, int] = {}
            with contextlib.suppress(OSError):  # said when something is to be written there
                sizes = self._directory.offsets(host)
            with self._lock:
                self._logs[host] = {name: _Log(size) for name, size in sizes.items()}

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
        try:
            self._directory.append_log(host, piece.name, piece.offset, piece.data)
        except OSError as error:
            with self._lock:
                self.behind.add(host)
            self._complain(error, now)
            return
        with self._lock:
            log.add(piece.offset, piece.data)

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

    def _forget_what_is_gone(self, host: str) -> None:
        """A disk that failed may have lost what it had taken."""
        sizes = self._directory.offsets(host)
        with self._lock:
            for name, log in self._logs[host].items():
                if sizes.get(name, 0) < log.size:
                    self._logs[host][name] = _Log(sizes.get(name, 0))

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
        log = self._logs.get(host, {}).get(name)
        if log is not None and log.size == size and log.fingerprint is not None:
            return log.fingerprint
        read = self._directory.log_fingerprint(host, name, on_block)
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
