"""Logs and events of all hosts on their way to this machine's disk.

A disk that takes nothing (full, gone, no descriptors) costs no run: the nodes hold every byte until they are
told to forget it. What could not be written is fetched again once the disk takes something.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from clusterctl.messages.relay import Fingerprint, LogPiece
from clusterctl.run.display import Display
from clusterctl.store.runs import RunDirectory

_PAUSE = 5.0
_LONGEST_PAUSE = 60.0
_ROOM = b"\0" * (256 * 1024)


class _Arrived:
    """The hash of a log from its first byte on, as far as it has come without a gap."""

    def __init__(self) -> None:
        self.size = 0
        self._hash = hashlib.sha256()

    def take(self, offset: int, data: bytes) -> None:
        if offset <= self.size:
            fresh = data[self.size - offset :]
            self._hash.update(fresh)
            self.size += len(fresh)

    @property
    def fingerprint(self) -> Fingerprint:
        return Fingerprint(size=self.size, sha256=self._hash.hexdigest())


class LogCollector:
    """What has arrived, host by host. ``behind`` are hosts whose logs must be fetched again."""

    def __init__(self, directory: RunDirectory, display: Display) -> None:
        self.behind: set[str] = set()
        self.trouble = ""
        """Why this machine's disk takes nothing at the moment."""
        self._directory = directory
        self._display = display
        self._unwritten: list[Mapping[str, Any]] = []
        self._shown: dict[tuple[str, str], int] = {}
        self._arrived: dict[tuple[str, str], _Arrived] = {}
        self._told: dict[str, dict[str, Fingerprint]] = {}
        self._retry_at = 0.0
        self._pause = _PAUSE

    def offsets(self, host: str) -> dict[str, int]:
        """Where a new session with this host goes on."""
        self.behind.discard(host)
        return self._directory.offsets(host)

    def take(self, host: str, piece: LogPiece, now: float) -> None:
        """Bytes of a log: to the disk, and on the screen unless they were there before."""
        if host not in self.behind:
            try:
                self._directory.append_log(host, piece.name, piece.offset, piece.data)
                arrived = self._arrived.setdefault((host, piece.name), _Arrived())
                arrived.take(piece.offset, piece.data)
            except OSError as error:
                self.behind.add(host)
                self._complain(error, now)
        seen = self._shown.get((host, piece.name), 0)
        end = piece.offset + len(piece.data)
        if end > seen:
            self._shown[host, piece.name] = end
            self._display.output(host, piece.name, piece.data[max(0, seen - piece.offset) :])

    def record(self, event: Mapping[str, Any], now: float) -> None:
        """One line of ``events.jsonl``, in order, now or when the disk takes it."""
        self._unwritten.append(event)
        if not self.trouble:
            self._write_events(now)

    def complete(self, host: str, told: dict[str, Fingerprint]) -> None:
        """What the host says its logs are."""
        self._told[host] = told

    def retry(self, now: float) -> set[str]:
        """After trouble, look whether the disk takes something again: hosts to be fetched from again."""
        if not self.trouble or now < self._retry_at:
            return set()
        probe = self._directory.path / ".room"
        try:
            probe.write_bytes(_ROOM)
            probe.unlink()
            self.trouble = ""
            self._write_events(now)
        except OSError as error:
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
            self._complain(error, now)
        if self.trouble:
            return set()
        self._pause = _PAUSE
        self._display.say("this machine's disk takes logs again: fetching what is missing")
        return set(self.behind)

    def incomplete(self, hosts: tuple[str, ...]) -> tuple[str, ...]:
        """Hosts whose logs here differ in size or hash from what they say they wrote."""
        return tuple(host for host in hosts if not self._is_whole(host))

    def _is_whole(self, host: str) -> bool:
        told = self._told.get(host)
        if told is None or host in self.behind:
            return False
        try:
            sizes = self._directory.offsets(host)
            return all(
                self._fingerprint(host, name, sizes.get(name)) == mark
                for name, mark in told.items()
                if mark.size
            )
        except OSError:
            return False

    def _fingerprint(self, host: str, name: str, size: int | None) -> Fingerprint | None:
        """Of a log as it lies here. It is read only where part of it was here before, or came by a detour:
        a big one takes its time, in which Ctrl-C waits."""
        arrived = self._arrived.get((host, name))
        if arrived is not None and arrived.size == size:
            return arrived.fingerprint
        read = self._directory.log_fingerprint(host, name)
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
            self._display.say(
                f"this machine cannot write to {self._directory.path} ({error.strerror or error}); "
                "the run goes on, the hosts keep its logs until it can"
            )
        self.trouble = str(error)
        self._retry_at = now + self._pause
