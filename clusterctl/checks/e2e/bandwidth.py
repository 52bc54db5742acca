"""What TCP carries between the hosts, against what it carries between the others."""

from __future__ import annotations

from collections.abc import Iterator

from clusterctl.checks.remedy import Remedy, ifname, shell
from clusterctl.checks.rule import Evidence, Hit, NotKnown, Rule, Skipped, Verdict
from clusterctl.network import bandwidth
from clusterctl.network.bandwidth import Capacity

NAMED = 4
_HELD_UP = {
    "receiver": "the receiving process was the limit",
    "sender": "the sending process was the limit",
    "machine": "cores were the limit",
    "network": "the network was the limit",
}
_WAY = {"out": "sends", "in": "receives"}


def _tcp(evidence: Evidence) -> Iterator[Verdict]:
    found = evidence.proof.bandwidth
    if found is None:
        yield Skipped("asked with --thorough")
        return
    if found.skipped:
        yield Skipped(found.skipped)
        return
    yield from (NotKnown(host, why) for host, why in found.errors.items() if host in evidence.facts)
    known = tuple(each for each in bandwidth.capacities(found.transfers) if each.host in evidence.facts)
    if not known:
        return
    usual = bandwidth.usual(known)
    slow = bandwidth.slow(known)
    if len(evidence.facts) > 2:
        for each in slow:
            yield Hit(
                hosts=(each.host,),
                observed=f"{_WAY[each.direction]} {gigabits(each.rate)} at most, with whomever",
                expected=f"about {gigabits(usual)}, as the others",
                severity="fail" if each.rate < usual * bandwidth.FAIL else "warn",
                fix=_look(evidence, each.host),
                cause="slow",
            )
    yield Hit(hosts=tuple(dict.fromkeys(each.host for each in known)), observed=_told(known), severity="info")


def _look(evidence: Evidence, host: str) -> Remedy:
    entry = evidence.network.of(host)
    advice = "look at its cable, at the duplex and at the port of the switch"
    if entry is None:
        return Remedy(advice=advice)
    return shell("sudo ethtool {}", values=(ifname(entry.ifname),), looks=True, advice=advice)


def _told(known: tuple[Capacity, ...]) -> str:
    """``TCP carries 9.4 Gbit/s at the median; a 9.4 out, 9.3 in; ...``, the slowest hosts first."""
    by_host: dict[str, dict[str, float]] = {}
    for each in sorted(known, key=lambda each: each.rate):
        by_host.setdefault(each.host, {})[each.direction] = each.rate
    named = "; ".join(f"{host} {_both(ways)}" for host, ways in list(by_host.items())[:NAMED])
    more = f"; {len(by_host) - NAMED} hosts more" if len(by_host) > NAMED else ""
    limits = {each.limit for each in known}
    why = f" ({_HELD_UP[limits.pop()]})" if len(limits) == 1 else ""
    return f"TCP carries {gigabits(bandwidth.usual(known))} at the median{why}: {named}{more}"


def _both(ways: dict[str, float]) -> str:
    return ", ".join(f"{gigabits(ways[way])} {way}" for way in ("out", "in") if way in ways)


def gigabits(rate: float) -> str:
    return f"{rate / 1e9:.3g} Gbit/s"


RULES: tuple[Rule, ...] = (
    Rule(
        code="e2e.tcp-bw",
        severity="warn",
        looks_at="bandwidth of TCP between hosts in disjoint pairs, where the network was the limit",
        judge=_tcp,
        symptom="every all-reduce is as slow as this host",
        fix="look at its cable, at the duplex and at the port of the switch",
    ),
)
