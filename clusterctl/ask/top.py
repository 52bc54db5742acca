"""Hears from many hosts what they do, for as long as somebody looks; a host that breaks hides no other."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from clusterctl.ask.bundle import REMOTE_COMMAND, pack
from clusterctl.ask.pool import HostEnded, HostFailed, HostOpened, HostPool, HostSaid
from clusterctl.messages.top import HostSeen, TopMessage, top_messages
from clusterctl.settings import SSH
from clusterctl.transport.protocol import Transport

_NODE_FILES = (
    "observe.counters", "observe.nvml", "observe.samples", "shared.files", "shared.processes",
)  # fmt: skip
_AGAIN = 20.0
_LOOK = 0.2
_SILENT = 20.0
"""Seconds after its login in which a host has a first word to say."""


class TopWatch:
    """One session with each host. `close` ends what runs there."""

    def __init__(self, transport: Transport, hosts: Sequence[str], every: float) -> None:
        """Begins at once. ``every``: seconds between what a host says."""
        self._transport = transport
        self._bundle = pack("top", {"every": every}, _NODE_FILES)
        self._lost: dict[str, float] = {}
        self._silent: dict[str, float] = {}
        """Since when hosts are logged in to that have said nothing yet."""
        self._pools = [self._open(hosts)]

    def news(self, seconds: float) -> Iterator[tuple[str, HostSeen | str]]:
        """(host, what it does, or why nothing is known) as it comes in so many seconds. Hosts that are lost
        are asked again once in a while."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            for pool in self._pools:
                for event in pool.events(time.monotonic() + min(left, _LOOK / max(1, len(self._pools)))):
                    match event:
                        case HostOpened(host):
                            self._silent[host] = time.monotonic()
                        case HostFailed(host, failure):
                            yield self._lose(host, failure.message)
                        case HostEnded(host, session):
                            yield self._lose(host, (session.fault or session.why_ended()))
                        case HostSaid(host, told):
                            self._silent.pop(host, None)
                            yield host, told
            yield from self._still_silent()
            self._ask_again()
            if not any(pool.sessions for pool in self._pools):
                time.sleep(min(_LOOK, max(0.0, deadline - time.monotonic())))

    def close(self) -> None:
        for pool in self._pools:
            pool.close()

    def _open(self, hosts: Sequence[str]) -> HostPool[TopMessage]:
        deadline = time.monotonic() + SSH.probe_timeout
        return HostPool(
            self._transport, hosts, REMOTE_COMMAND, lambda _: self._bundle, top_messages, deadline
        )

    def _still_silent(self) -> Iterator[tuple[str, str]]:
        for host in [host for host, since in self._silent.items() if time.monotonic() - since > _SILENT]:
            del self._silent[host]
            yield host, "logged in, but nothing has come from it since"

    def _lose(self, host: str, why: str) -> tuple[str, str]:
        self._silent.pop(host, None)
        self._lost[host] = time.monotonic()
        return host, why

    def _ask_again(self) -> None:
        for pool in [pool for pool in self._pools if pool.over]:
            pool.close()
            self._pools.remove(pool)
        due = [host for host, since in self._lost.items() if time.monotonic() - since > _AGAIN]
        if due:
            for host in due:
                del self._lost[host]
            self._pools.append(self._open(due))
