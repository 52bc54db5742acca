"""What hosts carried to one another, and which of them carry less than the others. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median
from typing import Literal

import msgspec

from clusterctl.facts.e2e import Transfer

Direction = Literal["out", "in"]
Limit = Literal["network", "receiver", "sender", "machine"]

WARN, FAIL = 0.7, 0.5
_BUSY, _HELD_UP, _LIGHT, _IDLE = 0.9, 0.1, 0.1, 0.1


class Capacity(msgspec.Struct, frozen=True):
    """The most that a host carried in one direction, with whomever; ``limit`` is what kept it from more."""

    host: str
    direction: Direction
    rate: float
    limit: Limit


def limit(transfer: Transfer) -> Limit:
    """The network, where the sender always had something to send and the receiver took it, and cores were
    free or hardly used."""
    if transfer.busy < _BUSY or transfer.buffer > _HELD_UP:
        return "sender"
    if transfer.receiver > _HELD_UP:
        return "receiver"
    return "network" if transfer.cpu < _LIGHT or transfer.idle > _IDLE else "machine"


def capacities(transfers: Iterable[Transfer]) -> tuple[Capacity, ...]:
    best: dict[tuple[str, Direction], Transfer] = {}
    ends: tuple[Direction, Direction] = ("out", "in")
    for transfer in transfers:
        for direction, host in zip(ends, (transfer.source, transfer.target), strict=True):
            known = best.get((host, direction))
            if not transfer.error and (known is None or transfer.rate > known.rate):
                best[host, direction] = transfer
    return tuple(
        Capacity(host, direction, each.rate, limit(each)) for (host, direction), each in best.items()
    )


def usual(found: Iterable[Capacity]) -> float:
    """The median over all hosts and directions; 0 where nothing was carried."""
    rates = [each.rate for each in found]
    return median(rates) if rates else 0.0


def slow(found: tuple[Capacity, ...]) -> tuple[Capacity, ...]:
    """Those far below the median that the network, and not a core, kept there."""
    bar = usual(found) * WARN
    return tuple(each for each in found if each.rate < bar and each.limit == "network")
