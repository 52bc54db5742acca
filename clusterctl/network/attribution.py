"""Who is to blame for broken paths: one host's inbound side once, instead of a line for each pair."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence, Set
from typing import Literal

import msgspec

Edge = tuple[str, str]
Side = Literal["inbound", "outbound", "both", "all", "between", "pair"]

CULPRIT_FRACTION = 0.5


class Blame(msgspec.Struct, frozen=True):
    """``hosts`` are at fault; ``peers`` are those at the other end. A pair is (source, target).

    ``between``: nothing passes either way between ``hosts`` and ``peers``, everything among each of them.
    """

    side: Side
    hosts: tuple[str, ...]
    peers: tuple[str, ...]


def attribute(bad: Set[Edge], asked: Set[Edge]) -> tuple[Blame, ...]:
    """The fewest culprits that explain the ``bad`` edges out of the ``asked`` ones.

    Everything broken is nobody's fault in particular. Else hosts that nobody reaches explain it, or hosts
    that reach nobody, whichever are fewer (a firewall sits in front of the listener more often); else
    culprits one by one, first those of which a whole side is bad, then by the share that is; what is left are
    single paths.
    """
    if not bad:
        return ()
    if bad == asked:
        ends = tuple(sorted({host for edge in bad for host in edge}))
        return (Blame("all", ends, ends),)
    apart = _between(bad, asked)
    if apart:
        return apart
    inbound, outbound = _fully(bad, asked, 1), _fully(bad, asked, 0)
    explained_in = {edge for edge in bad if edge[1] in inbound} == bad
    explained_out = {edge for edge in bad if edge[0] in outbound} == bad
    if explained_in and not (explained_out and len(outbound) < len(inbound)):
        return tuple(blame("inbound", host, bad) for host in sorted(inbound))
    if explained_out:
        return tuple(blame("outbound", host, bad) for host in sorted(outbound))
    return _one_by_one(bad, asked, inbound, outbound)


def blame(side: Side, host: str, bad: Set[Edge]) -> Blame:
    """``host`` is at fault on this side, towards everybody at the other end of a ``bad`` edge."""
    peers = {
        edge[0] if edge[1] == host else edge[1]
        for edge in bad
        if (side != "outbound" and edge[1] == host) or (side != "inbound" and edge[0] == host)
    }
    return Blame(side, (host,), tuple(sorted(peers)))


def explained(found: Blame, bad: Set[Edge]) -> set[Edge]:
    """The ``bad`` edges for which this is the explanation."""
    if found.side == "all":
        return set(bad)
    if found.side == "between":
        return {edge for edge in bad if len(set(edge) & set(found.hosts)) == 1}
    (host,) = found.hosts
    if found.side == "pair":
        return {(found.peers[0], host)} & bad
    return {
        edge
        for edge in bad
        if (found.side != "outbound" and edge[1] == host) or (found.side != "inbound" and edge[0] == host)
    }


def _between(bad: Set[Edge], asked: Set[Edge]) -> tuple[Blame, ...]:
    """Groups of two and more hosts that have no way to one another: what joins them is at fault, and all but
    the largest have to stay out. Nothing where a host by itself would explain it."""
    ends = sorted({host for edge in asked for host in edge})
    groups = _connected(ends, asked - bad)
    home = {host: group for group in groups for host in group}
    one_way = any((target, source) not in bad and (target, source) in asked for source, target in bad)
    inside = any(home[source] is home[target] for source, target in bad)
    if one_way or inside or len(groups) < 2 or min(map(len, groups)) < 2:
        return ()
    largest = max(groups, key=len)
    return tuple(
        Blame("between", group, tuple(host for host in ends if host not in group))
        for group in groups
        if group is not largest
    )


def _connected(hosts: Sequence[str], edges: Set[Edge]) -> list[tuple[str, ...]]:
    """Hosts that some chain of ``edges`` joins, whichever way they lead."""
    joined = {host: {host} for host in hosts}
    for source, target in edges:
        if joined[source] is not joined[target]:
            joined[source] |= joined[target]
            for host in joined[target]:
                joined[host] = joined[source]
    return list(dict.fromkeys(tuple(sorted(joined[host])) for host in hosts))


def _fully(bad: Set[Edge], asked: Set[Edge], end: int) -> set[str]:
    """Hosts whose every asked edge at that end (0 source, 1 target) is bad."""
    of_bad, of_asked = Counter(edge[end] for edge in bad), Counter(edge[end] for edge in asked)
    return {host for host, count in of_bad.items() if count == of_asked[host]}


def _one_by_one(bad: Set[Edge], asked: Set[Edge], inbound: set[str], outbound: set[str]) -> tuple[Blame, ...]:
    blames: list[Blame] = []
    left = set(bad)
    while left:
        found = _wholly(left, inbound, outbound) or _mostly(left, asked)
        if found is None:
            break
        side, host = found
        blames.append(blame(side, host, bad))
        left -= explained(blames[-1], left)
    blames.extend(Blame("pair", (target,), (source,)) for source, target in sorted(left))
    return tuple(blames)


def _wholly(left: Set[Edge], inbound: set[str], outbound: set[str]) -> tuple[Side, str] | None:
    """The host that explains most, of those of which a whole side is bad."""
    into, out_of = Counter(edge[1] for edge in left), Counter(edge[0] for edge in left)
    best: tuple[int, bool, Side, str] | None = None
    for host in sorted(inbound | outbound):
        is_in, is_out = host in inbound, host in outbound
        side: Side = "both" if is_in and is_out else "inbound" if is_in else "outbound"
        weight = into[host] * is_in + out_of[host] * is_out
        if weight and (best is None or (weight, is_in) > best[:2]):
            best = (weight, is_in, side, host)
    return best[2:] if best else None


def _mostly(left: Set[Edge], asked: Set[Edge]) -> tuple[Side, str] | None:
    """The host that explains most; none when no host is bad towards half of two or more peers."""
    bad_in, bad_out = Counter(edge[1] for edge in left), Counter(edge[0] for edge in left)
    all_in, all_out = Counter(edge[1] for edge in asked), Counter(edge[0] for edge in asked)
    best: tuple[int, bool, Side, str] | None = None
    for host in sorted({host for edge in left for host in edge}):
        is_in = bad_in[host] >= 2 and bad_in[host] >= CULPRIT_FRACTION * all_in[host]
        is_out = bad_out[host] >= 2 and bad_out[host] >= CULPRIT_FRACTION * all_out[host]
        side: Side = "both" if is_in and is_out else "inbound" if is_in else "outbound"
        weight = bad_in[host] * is_in + bad_out[host] * is_out
        if weight and (best is None or (weight, is_in) > best[:2]):
            best = (weight, is_in, side, host)
    return best[2:] if best else None
