"""Which connections each host tries: all pairs, all candidate addresses, more ports where hosts are few."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random

import msgspec

from clusterctl.facts.model import PortKind

FULL_BULK_HOSTS = 32
FEW_HOSTS = 8
PERMUTATIONS = 3


class Listener(msgspec.Struct, frozen=True, array_like=True):
    """A port that a host listens on for us."""

    address: str
    port: int
    kind: PortKind


class Order(msgspec.Struct, frozen=True):
    """One dial to make; ``bulk`` adds 1 MB each way."""

    target: str
    address: str
    port: int
    kind: PortKind
    bulk: bool


def ephemeral_ports(hosts: int) -> int:
    """How many OS-chosen ports to open on each address: firewalls are sampled better where that is cheap."""
    if hosts <= FEW_HOSTS:
        return 8
    return 3 if hosts <= FULL_BULK_HOSTS else 1


def plan_dials(listeners: Mapping[str, Sequence[Listener]], *, seed: int = 0) -> dict[str, tuple[Order, ...]]:
    """Host -> its dials, in an order that spreads the load over the targets.

    Every host dials every other on every address it listens on. Bulk goes once over each pair and address up
    to 32 hosts; beyond, over a star, a ring and three random permutations. There, too, only those pairs
    try the ends and the middle of the port range.
    """
    hosts = list(listeners)
    thorough = _subset(hosts, Random(seed)) if len(hosts) > FULL_BULK_HOSTS else None
    return {
        source: tuple(
            order
            for target in hosts[position + 1 :] + hosts[:position]
            for order in _orders(target, listeners[target], thorough is None or (source, target) in thorough)
        )
        for position, source in enumerate(hosts)
    }


def _orders(target: str, listeners: Sequence[Listener], thorough: bool) -> list[Order]:
    orders = []
    weighed: set[str] = set()
    for listener in listeners:
        if not thorough and listener.kind in ("low", "middle", "high"):
            continue
        bulk = thorough and listener.kind == "ephemeral" and listener.address not in weighed
        if bulk:
            weighed.add(listener.address)
        orders.append(Order(target, listener.address, listener.port, listener.kind, bulk))
    return orders


def _subset(hosts: Sequence[str], random: Random) -> set[tuple[str, str]]:
    """Ordered pairs: star to rank 0 both ways, ring both ways, and random permutations."""
    first = hosts[0]
    pairs = {pair for host in hosts[1:] for pair in ((first, host), (host, first))}
    for near, far in zip(hosts, (*hosts[1:], first), strict=True):
        pairs |= {(near, far), (far, near)}
    for _ in range(PERMUTATIONS):
        shuffled = list(hosts)
        random.shuffle(shuffled)
        pairs |= {(near, far) for near, far in zip(hosts, shuffled, strict=True) if near != far}
    return pairs
