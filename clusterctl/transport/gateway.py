"""Jump hosts: one connection each, shared by all hosts behind it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from clusterctl.settings import SSH
from clusterctl.transport.link import Link
from clusterctl.transport.places import Places
from clusterctl.transport.protocol import Failure


class Gateway:
    """A connection that the first who needs it opens, and at most a window of new sessions through it.

    Each host behind a jump host asks its sshd for work at once; MaxStartups is per sshd.
    """

    def __init__(self, name: str, open_link: Callable[[float], Link | Failure]) -> None:
        self.name = name
        self._open_link = open_link
        self._opening = threading.Lock()
        self.sessions = Places(SSH.gateway_window)
        """For sessions that are being opened through it."""
        self._link: Link | None = None
        self._failure: tuple[float, Failure] | None = None

    def link(self, deadline: float) -> Link | Failure:
        """The shared connection. A failure is remembered briefly: 64 hosts need not wait for it in turn."""
        if not self._opening.acquire(timeout=max(0.0, deadline - time.monotonic())):
            return Failure(host=self.name, stage="deadline", message="the gateway did not answer in time")
        try:
            if self._link is not None and self._link.alive:
                return self._link
            if self._failure and time.monotonic() - self._failure[0] < SSH.gateway_memory:
                return self._failure[1]
            opened = self._open_link(deadline)
            if isinstance(opened, Failure):
                self._failure = (time.monotonic(), opened)
            else:
                self._link, self._failure = opened, None
            return opened
        finally:
            self._opening.release()

    def close(self) -> None:
        if self._link is not None:
            self._link.close()
