"""Channels whose command waits to be told what to do next, kept for whoever opens the same command there."""

from __future__ import annotations

import threading
import time
from typing import Protocol

from clusterctl.settings import SSH
from clusterctl.transport.protocol import Channel


class Renewable(Channel, Protocol):
    """A channel that may live on under another deadline."""

    def renew(self, deadline: float) -> None: ...


class ChannelCache:
    """At most one channel for each host and command. Whoever put it there closes what is never taken."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, str], tuple[Renewable, float]] = {}

    def put(self, channel: Renewable, command: str) -> None:
        with self._lock:
            older = self._kept.pop((channel.host, command), None)
            self._kept[channel.host, command] = channel, time.monotonic()
        if older is not None:
            older[0].close()

    def take(self, host: str, command: str, deadline: float) -> Renewable | None:
        """The channel kept for this host and command, if its command still waits there."""
        with self._lock:
            kept = self._kept.pop((host, command), None)
        if kept is None:
            return None
        channel, since = kept
        # It has ended only once all that it said last is read, and nobody reads here.
        over = channel.ended or channel.exit_code is not None
        if over or time.monotonic() - since > SSH.kept_for:
            channel.close()
            return None
        channel.renew(deadline)
        return channel
