"""Channels whose command waits to be told what to do next, kept for whoever opens the same command there."""

from __future__ import annotations

import threading
from typing import Protocol

from clusterctl.transport.protocol import Channel


class Renewable(Channel, Protocol):
    """A channel that may live on under another deadline."""

    def renew(self, deadline: float) -> None: ...


class ChannelCache:
    """At most one channel for each host and command. Whoever put it there closes what is never taken."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, str], Renewable] = {}

    def put(self, channel: Renewable, command: str) -> None:
        with self._lock:
            older = self._kept.pop((channel.host, command), None)
            self._kept[channel.host, command] = channel
        if older is not None:
            older.close()

    def take(self, host: str, command: str, deadline: float) -> Renewable | None:
        """The channel kept for this host and command, if it still stands."""
        with self._lock:
            channel = self._kept.pop((host, command), None)
        if channel is None:
            return None
        if channel.ended:
            channel.close()
            return None
        channel.renew(deadline)
        return channel
