"""What silence means. Pure.

It is not death: a host is lost only when the controller cannot reach it *and* another host cannot either, and
when all are silent at once it is the controller that is sick.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from clusterctl.run.actions import IndirectProbe
from clusterctl.run.states import HostRecord
from clusterctl.settings import RunDefaults


class Lost(msgspec.Struct, frozen=True):
    node: int
    why: str


def dumb_links(hosts: Sequence[HostRecord], now: float, defaults: RunDefaults) -> list[int]:
    """Nodes whose channel stands, but has brought nothing for longer than a heartbeat may take."""
    return [
        node
        for node, host in enumerate(hosts)
        if not host.over and host.linked and now - max(host.heard, host.opened) > defaults.heartbeat_timeout
    ]


def judge(
    hosts: Sequence[HostRecord], now: float, grace: float, defaults: RunDefaults
) -> list[Lost | IndirectProbe]:
    """Who is lost by now, and who has to be looked for from another host. ``grace`` is what its agent gives
    the ranks once its lease is over."""
    waiting = [node for node, host in enumerate(hosts) if not host.over]
    silent = [node for node in waiting if now - hosts[node].heard > defaults.heartbeat_timeout]
    lease_over = defaults.lease_attached + defaults.heartbeat_timeout
    if silent and len(silent) == len(hosts):
        if min(now - hosts[node].heard for node in silent) <= lease_over:
            return []
        return [Lost(node, "no host answered until the lease ran out") for node in silent]
    prober = next((node for node in waiting if node not in silent), None)
    found: list[Lost | IndirectProbe] = []
    for node in silent:
        host = hosts[node]
        if now - host.heard > lease_over + grace:
            # Whatever else it answers, its agent has had no word for longer than a lease.
            found.append(Lost(node, "no word from it until its lease had run out"))
        elif not host.unreachable:
            continue
        elif host.reachable is False:
            found.append(Lost(node, "neither the controller nor another host can reach it"))
        elif prober is None:
            found.append(Lost(node, "the controller cannot reach it"))
        elif host.asked is None or now - host.asked > defaults.heartbeat_timeout:
            found.append(IndirectProbe(prober, node))
    return found
