"""Which connections each host tries: all addresses of every peer, or of a sample where hosts are many."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set

import msgspec

from clusterctl.facts.model import PortKind
from clusterctl.network.attribution import Edge

ALL_PAIRS_HOSTS = 64
FULL_BULK_HOSTS = 32
FEW_HOSTS = 8


class Listener(msgspec.Struct, frozen=True, array_like=True):
    """A port that a host listens on for us."""

    address: str
    port: int
    kind: PortKind


class Order(msgspec.Struct, frozen=True):
    """One dial to make; ``bulk`` adds 1 MB."""

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


def is_sampled(hosts: int, *, all_pairs: bool) -> bool:
    """Whether not every host dials every other."""
    return hosts > ALL_PAIRS_HOSTS and not all_pairs


def plan_dials(
    listeners: Mapping[str, Sequence[Listener]],
    *,
    all_pairs: bool = False,
    bears: Mapping[str, Set[str]] = {},
) -> dict[str, tuple[Order, ...]]:
    """Host -> its dials, grouped by target: in round r host i visits host i + r.

    Up to 64 hosts, or with ``all_pairs``, every host visits every other; beyond, a `sample`. Bulk goes once
    to each address, up to 32 hosts from everybody, beyond over the sample; there, too, only those pairs try
    the ends and the middle of the port range. An address that the visitor ``bears`` itself cannot be tried:
    it would reach itself.
    """
    hosts = list(listeners)
    thorough = sample(hosts) if len(hosts) > FULL_BULK_HOSTS else None
    visited = thorough if is_sampled(len(hosts), all_pairs=all_pairs) else None
    return {
        source: tuple(
            order
            for target in hosts[position + 1 :] + hosts[:position]
            if visited is None or (source, target) in visited
            for order in orders(
                target,
                (each for each in listeners[target] if each.address not in bears.get(source, ())),
                thorough=thorough is None or (source, target) in thorough,
            )
        )
        for position, source in enumerate(hosts)
    }


def orders(target: str, listeners: Iterable[Listener], *, thorough: bool) -> list[Order]:
    """What a visit to ``target`` dials; the first of each address is tried first."""
    found = []
    weighed: set[str] = set()
    for listener in listeners:
        if not thorough and listener.kind in ("low", "middle", "high"):
            continue
        bulk = thorough and listener.kind == "ephemeral" and listener.address not in weighed
        if bulk:
            weighed.add(listener.address)
        found.append(Order(target, listener.address, listener.port, listener.kind, bulk))
    return found


def sample(hosts: Sequence[str]) -> set[Edge]:
    """Ordered pairs, each both ways: rank 0 with all, and everybody with those 1, 2, 4, 8 ... places further.

    That is the star and the ring that training itself needs, and for each host about 2 log n others in each
    direction, enough to tell a sick host from a sick path.
    """
    count = len(hosts)
    pairs = {pair for host in hosts[1:] for pair in ((hosts[0], host), (host, hosts[0]))}
    shift = 1
    while shift < count:
        for position, near in enumerate(hosts):
            far = hosts[(position + shift) % count]
            if near != far:
                pairs |= {(near, far), (far, near)}
        shift *= 2
    return pairs
