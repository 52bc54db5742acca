"""How fast data gets through, and what is lost: hosts are held against one another, not against a clock."""

from __future__ import annotations

import math
from collections.abc import Iterator

from clusterctl.checks.consistency import middle_of_others
from clusterctl.checks.net.paths import edges, with_traffic
from clusterctl.checks.remedy import Fix, address, ifname, shell
from clusterctl.checks.rule import Evidence, Hit, Rule, Verdict
from clusterctl.facts.model import Dial
from clusterctl.network import flows
from clusterctl.network.flows import Side, in_words

FAR, FAR_RATIO = 0.002, 10
"""Seconds and times the others' that one machine room does not have."""


def _dials(evidence: Evidence) -> list[Dial]:
    """Of paths on which a large message stalled net.pmtu tells: how slow the rest was there says nothing."""
    dialled = edges(evidence)
    stalled = {edge for edge, dials in dialled.items() if any(dial.result == "stall" for dial in dials)}
    return [
        dial
        for (source, target), dials in dialled.items()
        if not {(source, target), (target, source)} & stalled
        for dial in dials
        if dial.flow
    ]


def _slow(evidence: Evidence) -> Iterator[Verdict]:
    told: dict[str, list[Side]] = {}
    usual: dict[str, float] = {}
    for side, rate in flows.slow(_dials(evidence)):
        if not side.alone:  # there was no time to repeat it, or it was one of too many
            continue
        told.setdefault(side.host, []).append(side)
        usual.setdefault(side.host, rate)
    for host, sides in told.items():
        what = " and ".join(
            f"{_what(evidence, side)} gets through at {in_words(side.rate or 0)}" for side in sides
        )
        yield from _hits(
            evidence,
            host,
            f"{what} at best, with every peer and when nothing else is sent",
            expected=f"{in_words(usual[host])}, as between the others",
        )


def _loss(evidence: Evidence) -> Iterator[Verdict]:
    told: dict[str, list[Side]] = {}
    for side in flows.lossy(_dials(evidence)):
        told.setdefault(side.host, []).append(side)
    for host, sides in told.items():
        what = " and ".join(f"about {side.loss:.0%} of {_what(evidence, side)}" for side in sides)
        yield from _hits(
            evidence,
            host,
            f"{what} is lost on the way and sent again, though little is sent",
            expected="nothing is lost on a path without other traffic",
        )


def _far(evidence: Evidence) -> Iterator[Verdict]:
    """The shortest round trip of all its paths is a host's distance: whatever a busy machine adds, not all of
    them meet it. Only one that is far from everybody can be told: of two sites neither is at fault."""
    shortest: dict[str, float] = {}
    for dial in _dials(evidence):
        for host in (dial.source, dial.target):
            if dial.flow and dial.flow.shortest > 0:
                shortest[host] = min(shortest.get(host, math.inf), dial.flow.shortest)
    others = middle_of_others(shortest)
    for host, seconds in shortest.items():
        if len(shortest) > 2 and seconds >= FAR and seconds >= FAR_RATIO * others[host]:
            yield Hit(
                hosts=(host,),
                observed=f"a packet to the nearest host and back takes {1000 * seconds:.1f} ms",
                expected=f"{1000 * others[host]:.2g} ms, as between the others",
                fix=_way(evidence, host),
                cause="far",
            )


def _way(evidence: Evidence, host: str) -> Fix:
    other = next((entry.address for entry in evidence.network.hosts if entry.host != host), "")
    return shell(
        "tracepath -n {}",
        values=(address(other),),
        looks=True,
        advice="look for a VPN, a detour or another site on its way",
    )


def _what(evidence: Evidence, side: Side) -> str:
    if len(evidence.facts) > 2:
        return "what it sends" if side.direction == "out" else "what is sent to it"
    (other,) = (host for host in evidence.facts if host != side.host)
    source, target = (side.host, other) if side.direction == "out" else (other, side.host)
    return f"what {source} sends to {target}"


def _hits(evidence: Evidence, host: str, observed: str, *, expected: str) -> Iterator[Hit]:
    """Of two hosts, either may be why."""
    either = len(evidence.facts) == 2
    for each in evidence.facts if either else (host,):
        yield Hit(
            hosts=(each,),
            observed=f"{observed}: either of the two hosts may be why" if either else observed,
            expected=expected,
            fix=_look(evidence, each),
        )


def _look(evidence: Evidence, host: str) -> Fix:
    entry = evidence.network.of(host)
    name = ifname(entry.ifname) if entry else None
    return shell(
        "tc -s qdisc show dev {}; ip -s link show {}; sudo ethtool {}",
        values=(name, name, name),
        looks=True,
        advice="look at cable, switch port and rate limits of this host",
    )


RULES: tuple[Rule, ...] = (
    Rule(
        code="net.tcp-slow",
        severity="warn",
        looks_at="how fast 1 MB gets through by the kernel's own count of the time that the network had it, "
        "against the other hosts",
        judge=with_traffic(_slow),
        symptom="every all-reduce waits for this host",
    ),
    Rule(
        code="net.loss",
        severity="warn",
        looks_at="packets that had to be sent again on paths without other traffic",
        judge=with_traffic(_loss),
        symptom="collectives stall for tenths of a second now and then",
    ),
    Rule(
        code="net.rtt",
        severity="warn",
        looks_at="the shortest round trip to any other host, against the other hosts",
        judge=with_traffic(_far),
        symptom="each of the many small collectives of a step waits for this host",
    ),
)
