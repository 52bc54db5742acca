"""Whether each host can be heard and reached, and what silence means. Pure.

Silence is not death: a host is lost only when the controller cannot reach it *and* another host cannot
either, and when all are silent at once it is the controller that is sick.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from clusterctl.run.actions import Action, IndirectProbe, Reconnect, Say
from clusterctl.run.states import HostRecord, Span
from clusterctl.settings import RunDefaults

_FIRST_PAUSE = 0.5
_DOUBLINGS = 4


class Lost(msgspec.Struct, frozen=True):
    """These nodes are given up. ``with_all``: every host of several was silent, and none is to blame."""

    nodes: tuple[int, ...]
    why: str
    with_all: bool = False


class Liveness:
    """The channels of a run: tell it what they do. Nodes are indices of ``hosts``, times the machine's."""

    def __init__(self, hosts: Sequence[HostRecord], defaults: RunDefaults, lease: float) -> None:
        """``lease``: for so many seconds a host goes on without a word."""
        self._hosts = hosts
        self._defaults = defaults
        self._lease = lease
        self.silence: Span | None = None
        """The last time for which nothing came from any of several hosts."""

    def heard(self, node: int, now: float) -> list[Action]:
        """Anything at all arrived from it."""
        host = self._hosts[node]
        limit = self._defaults.heartbeat_timeout
        if now - host.last_word > min(limit, self._lease / 2):
            host.silence = Span(host.last_word, now)
        if now - host.last_word > limit:
            last = max(each.last_word for each in self._hosts)
            if now - last > limit and len(self._hosts) > 1:
                self.silence = Span(last, now)
                for each in self._hosts:  # what failed meanwhile speaks against no host
                    each.unreachable, each.reachable, each.asked = False, None, None
        if host.hear(now) and not host.over:
            return [Say(f"{host.host}: connected again, nothing was lost")]
        return []

    def linked(self, node: int, now: float) -> None:
        """A new channel to it stands. Whether it brings anything is to be seen."""
        host = self._hosts[node]
        host.linked, host.answered, host.opened, host.retry_at = True, False, now, None

    def link_lost(self, node: int, reason: str, now: float, *, connected: bool = True) -> list[Action]:
        """Its channel broke, or a try to open one failed: another is due after a pause that grows. Only where
        nothing ``connected`` at all does that speak against the host; else it may just be slow."""
        host = self._hosts[node]
        if host.over:
            return []
        first_time = host.linked and host.answered
        host.linked = False
        host.unreachable = host.unreachable or not connected
        host.retry_at = now + _FIRST_PAUSE * 2 ** min(host.tries, _DOUBLINGS)
        host.tries += 1
        if not first_time:
            return []
        return [Say(f"{host.host}: the connection broke ({reason}); the run goes on there, reconnecting")]

    def probed(self, node: int, alive: bool) -> None:
        """What another host found over the training network."""
        self._hosts[node].reachable = alive

    def watch(self, now: float, grace: float) -> list[Action | Lost]:
        """Time has passed. ``grace`` is what agents give their ranks once the lease is over."""
        return [*self._renew_links(now), *self._judge_silence(now, grace)]

    def _renew_links(self, now: float) -> list[Action]:
        """A channel that stands, but has brought nothing for longer than a heartbeat may take, is broken."""
        actions: list[Action] = []
        for node, host in enumerate(self._hosts):
            if host.over:
                continue
            if host.linked and now - max(host.heard, host.opened) > self._defaults.heartbeat_timeout:
                actions += self.link_lost(node, "no heartbeat", now)
                host.retry_at = now
            if not host.linked and host.retry_at is not None and now >= host.retry_at:
                host.retry_at = None
                actions.append(Reconnect(node))
        return actions

    def _judge_silence(self, now: float, grace: float) -> list[Lost | IndirectProbe]:
        limits, hosts = self._defaults, self._hosts
        waiting = [node for node, host in enumerate(hosts) if not host.over]
        silent = [node for node in waiting if now - hosts[node].heard > limits.heartbeat_timeout]
        lease_over = self._lease + limits.heartbeat_timeout
        # Of hosts that are over, too: with one left, nobody else could tell whose fault its silence is.
        if silent and all(now - host.heard > limits.heartbeat_timeout for host in hosts):
            quiet = min(now - hosts[node].heard for node in silent)
            if quiet <= lease_over:
                return []
            if len(hosts) > 1:
                return [Lost(tuple(silent), silence_of_all(quiet), with_all=True)]
            return [Lost(tuple(silent), "no word from it until its lease had run out")]
        if self.silence is not None and now - self.silence.end < limits.heartbeat_timeout:
            return []  # the first of all is heard again, and tries of that time may still be under way
        prober = next((node for node in waiting if node not in silent), None)
        found: list[Lost | IndirectProbe] = []
        for node in silent:
            host = hosts[node]
            if now - host.heard > lease_over + grace:
                # Whatever else it answers, its agent has had no word for longer than a lease.
                found.append(Lost((node,), "no word from it until its lease had run out"))
            elif host.unreachable and host.reachable is False:
                found.append(Lost((node,), "neither the controller nor another host can reach it"))
            elif host.unreachable and prober is None:
                found.append(Lost((node,), "the controller cannot reach it"))
            elif prober is not None and (
                host.asked is None or now - host.asked > limits.heartbeat_timeout
            ):  # at once, beside the controller's own try
                host.asked, host.reachable = now, None
                found.append(IndirectProbe(prober, node))
        return found


def silence_of_all(seconds: float) -> str:
    """What is said of it where leases ran out meanwhile."""
    return f"nothing came from any host for {seconds:.0f} s, longer than their leases: they ended their ranks"
