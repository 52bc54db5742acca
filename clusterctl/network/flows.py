"""How fast data got through between hosts, and how much was lost, as the senders' kernels counted it.

A rate is never a process's: the kernel counts only the time in which the network had data to carry. Noise
makes a rate smaller, never greater, so a host's is the best of all its paths.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from statistics import median
from typing import Literal

import msgspec

from clusterctl.facts.model import Dial, Flow
from clusterctl.network.attribution import Edge

Direction = Literal["out", "in"]

TICK = 0.004
"""Seconds: kernels count the time under way in ticks like this, so faster is not told from fast."""
SLOW_TIMES = 10
SLOW_SECONDS = 0.3
"""A flow is slow only if it was under way for so long, and for SLOW_ROUND_TRIPS: else the distance may be
what takes time, or a kernel that has much to do."""
SLOW_ROUND_TRIPS = 20
LOSS = 0.02
FEWEST_LOST = 3
MOST_SUSPECTS = 4
PARTNERS = 2


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """One host in one direction. ``rate`` is bit/s of its best path, None where nothing large was sent;
    ``slow`` that every flow was, ``alone`` that one of them was measured when nothing else was sent.
    ``packets`` and ``again`` are those of steady flows."""

    host: str
    direction: Direction
    rate: float | None
    slow: bool
    alone: bool
    packets: int
    again: int

    @property
    def loss(self) -> float:
        """The share of packets that were sent again."""
        return min(1.0, self.again / self.packets) if self.packets else 0.0


Sides = Mapping[tuple[str, Direction], Side]


def sides(dials: Iterable[Dial]) -> dict[tuple[str, Direction], Side]:
    """Every host of which a flow is known, in each direction."""
    found: defaultdict[tuple[str, Direction], list[Flow]] = defaultdict(list)
    for dial in dials:
        if dial.flow and (dial.bulk or dial.flow.steady):
            found[dial.source, "out"].append(dial.flow)
            found[dial.target, "in"].append(dial.flow)
    return {key: _side(*key, flows) for key, flows in found.items()}


def measured(dials: Iterable[Dial], addresses: Mapping[str, str]) -> list[Dial]:
    """The dials that tell something of the network in which hosts have these addresses."""
    return [
        dial for dial in dials if dial.flow and dial.is_path and dial.address == addresses.get(dial.target)
    ]


def _side(host: str, direction: Direction, flows: list[Flow]) -> Side:
    large = [flow for flow in flows if not flow.steady]
    steady = [flow for flow in flows if flow.steady]
    return Side(
        host=host,
        direction=direction,
        rate=max(map(rate, large), default=None),
        slow=bool(large) and all(_is_slow(flow) for flow in large),
        alone=any(flow.alone for flow in large),
        packets=sum(flow.packets for flow in steady),
        again=sum(flow.again for flow in steady),
    )


def rate(flow: Flow) -> float:
    """Bit/s, at most what a tick can tell."""
    return 8 * flow.acknowledged / max(flow.busy, TICK)


def in_words(rate: float) -> str:
    """``4.8 Mbit/s``; what is faster than a tick can tell is "2 Gbit/s or more"."""
    most = 8 * (1 << 20) / TICK
    if rate >= 0.95 * most:
        return f"{most / 1e9:.0f} Gbit/s or more"
    if rate >= 1e9:
        return f"{rate / 1e9:.2g} Gbit/s"
    return f"{rate / 1e6:.0f} Mbit/s" if rate >= 1e7 else f"{rate / 1e6:.2g} Mbit/s"


def _is_slow(flow: Flow) -> bool:
    return flow.busy >= SLOW_SECONDS and flow.busy >= SLOW_ROUND_TRIPS * flow.shortest


def slow(dials: Iterable[Dial]) -> list[tuple[Side, float]]:
    """Sides that are far below the others and not lossy, each with the rate that is usual there."""
    kept = list(dials)
    found = sides(kept)
    excused = {side.host for side in lossy(kept)}
    slow_ones = []
    for side in found.values():
        usual = _usual_rate(found, side)
        if side.slow and side.rate and usual and side.rate * SLOW_TIMES <= usual and side.host not in excused:
            slow_ones.append((side, usual))
    return slow_ones


def _usual_rate(found: Sides, side: Side) -> float | None:
    """The middle of the other hosts' rates in that direction; of two hosts, the rate of the way back."""
    others = [
        other.rate
        for other in found.values()
        if other.host != side.host and other.direction == side.direction and other.rate
    ]
    if len(others) < 2:
        back = found.get((side.host, "in" if side.direction == "out" else "out"))
        others = [back.rate] if back and back.rate else []
    return median(others) if others else None


def lossy(dials: Iterable[Dial]) -> list[Side]:
    """The sides that explain what steady flows lost: first those of the host that lost most, then of the
    paths without it."""
    left = [dial for dial in dials if dial.flow and dial.flow.steady]
    blamed: list[Side] = []
    while True:
        found = [side for side in sides(left).values() if side.again >= FEWEST_LOST and side.loss >= LOSS]
        if not found:
            return blamed
        worst = max(found, key=lambda side: (side.again, side.direction == "in"))
        blamed += [side for side in found if side.host == worst.host]
        left = [dial for dial in left if worst.host not in (dial.source, dial.target)]


def losing(dials: Iterable[Dial]) -> list[Side]:
    """Sides on whose paths anything was sent again, most first; what they share with one of them is its."""
    left = [dial for dial in dials if dial.flow and dial.flow.again]
    found: list[Side] = []
    while left:
        counted = sides(msgspec.structs.replace(dial, flow=_as_steady(dial.flow)) for dial in left)
        worst = max(counted.values(), key=lambda side: (side.again, side.direction == "in"))
        found.append(worst)
        left = [dial for dial in left if worst.host not in (dial.source, dial.target)]
    return found


def _as_steady(flow: Flow | None) -> Flow | None:
    return msgspec.structs.replace(flow, steady=True) if flow else None


def edges_to_repeat(dials: Iterable[Dial], suspects: Iterable[Side]) -> tuple[Edge, ...]:
    """Paths on which suspects are measured again: with hosts that are none, as far as there are any."""
    sick = list(suspects)[:MOST_SUSPECTS]
    hosts = {side.host for side in sick}
    known = tuple(dict.fromkeys((dial.source, dial.target) for dial in dials if dial.flow))
    found: dict[Edge, None] = {}
    for side in sick:
        end = 0 if side.direction == "out" else 1
        own = [edge for edge in known if edge[end] == side.host]
        own.sort(key=lambda edge: edge[1 - end] in hosts)
        found |= dict.fromkeys(own[:PARTNERS])
    return tuple(found)
