"""Which host makes a pair fail, or slow: two passes, suspects with others that passed. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median

import msgspec

from clusterctl.facts.e2e import AllReduce

SLOW = 0.8
ENOUGH = 2
"""Pairs that a host must have been in before it is at fault."""


class Tried(msgspec.Struct, frozen=True):
    """What came of one host's pairs. ``bus`` is the best bus bandwidth in bytes/s, None where none ended."""

    host: str
    pairs: int
    bus: float | None


def bus_bandwidth(trial: AllReduce) -> float | None:
    """Bytes per second that each link of a ring had to carry, for the largest size; None where not all ranks
    came to the end."""
    if not trial.ranks or not all(rank.done and rank.times for rank in trial.ranks):
        return None
    size, _ = trial.ranks[0].times[-1]
    slowest = max(rank.times[-1][1] for rank in trial.ranks)
    count = len(trial.ranks)
    return size / slowest * 2 * (count - 1) / count if slowest > 0 and count > 1 else None


def tried(pairs: Iterable[AllReduce]) -> tuple[Tried, ...]:
    found: dict[str, list[float | None]] = {}
    for pair in pairs:
        bus = bus_bandwidth(pair)
        for host in dict.fromkeys(rank.host for rank in pair.ranks):
            found.setdefault(host, []).append(bus)
    return tuple(
        Tried(host, len(figures), max((each for each in figures if each is not None), default=None))
        for host, figures in found.items()
    )


def usual(found: Iterable[Tried]) -> float:
    """The median of hosts whose pairs ended; 0 without any."""
    figures = [each.bus for each in found if each.bus is not None]
    return median(figures) if figures else 0.0


def suspects(found: tuple[Tried, ...]) -> tuple[str, ...]:
    bar = usual(found) * SLOW
    return tuple(each.host for each in found if each.bus is None or each.bus < bar)
