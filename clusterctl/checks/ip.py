"""Addresses of the hosts against one another."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from ipaddress import ip_address

from clusterctl.checks.rule import Evidence, Hit, Rule, Verdict
from clusterctl.network.candidates import is_usable, is_wired, machine


def _duplicate_address(evidence: Evidence) -> Iterator[Verdict]:
    bearers: defaultdict[str, dict[tuple[object, ...], tuple[str, str]]] = defaultdict(dict)
    for host, facts in evidence.facts.items():
        for link in facts.interfaces:
            if is_usable(link) and is_wired(facts, link):
                for address in link.addresses:
                    if not ip_address(address.address).is_link_local:
                        bearers[address.address][machine(facts)] = (host, link.name)
    for text, by_machine in bearers.items():
        if len(by_machine) > 1:
            places = ", ".join(f"{name} of {host}" for host, name in by_machine.values())
            yield Hit(
                hosts=tuple(host for host, _ in by_machine.values()),
                observed=f"{text} is on {places}",
                expected="an address of its own on each",
            )


RULES: tuple[Rule, ...] = (
    Rule(
        code="ip.duplicate",
        severity="fail",
        looks_at="one address on real interfaces of two machines",
        judge=_duplicate_address,
        symptom="a peer connects to itself, or to whichever machine answers first, and hangs",
        fix="give one of them another address",
    ),
)
