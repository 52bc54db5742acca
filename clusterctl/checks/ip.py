"""Addresses of the hosts against one another."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Set

from clusterctl.checks.remedy import Fix, Remedy, ifname, shell
from clusterctl.checks.remedy import address as address_of
from clusterctl.checks.rule import Evidence, Hit, NoAnswer, Rule
from clusterctl.facts.addresses import ip_address, ip_network
from clusterctl.facts.model import Address, Interface
from clusterctl.network.candidates import is_usable, is_wired, leads_out, machine

Bearers = dict[tuple[object, ...], tuple[str, Interface, int]]
"""Machine -> host, interface and prefix of one address."""


def duplicate_addresses(evidence: Evidence) -> Iterator[Hit]:
    """One hit for each address that two machines bear where it matters."""
    bearers: defaultdict[str, Bearers] = defaultdict(dict)
    for host, facts in evidence.facts.items():
        this = machine(facts)
        for link in facts.interfaces:
            if is_usable(link) and link.kind != "loopback":
                for address in link.addresses:
                    if not ip_address(address.address).is_link_local:
                        bearers[address.address][this] = (host, link, address.prefix)
    for text, by_machine in bearers.items():
        if len(by_machine) > 1 and _joins_hosts(evidence, text, by_machine):
            places = ", ".join(f"{link.name} of {host}" for host, link, _ in by_machine.values())
            yield Hit(
                hosts=tuple(host for host, _, _ in by_machine.values()),
                observed=f"{text} is on {places}",
                expected="an address of its own on each",
                fix=_one_of_them(evidence, text, by_machine),
            )
    yield from _borne_elsewhere(evidence, {text for text, found in bearers.items() if len(found) > 1})
    for failure in evidence.failures:
        for host, link, address in answering_for(evidence, failure):
            yield Hit(
                hosts=(failure.host, host),
                observed=f"{link.name} of {host} bears {address.address}, the address of {failure.host}, and "
                "answers there with another host key",
                expected="an address of its own on each",
                fix=_taken_from(host, address.address, address.prefix, link),
            )


def answering_for(evidence: Evidence, failure: NoAnswer) -> Iterator[tuple[str, Interface, Address]]:
    """Who bears the address at which ``failure``'s host was met by an unknown key."""
    said = set(re.findall(r"[0-9a-f.:]+[0-9a-f]", failure.message)) if failure.stage == "hostkey" else set()
    for host, facts in evidence.facts.items():
        for link in facts.interfaces:
            for address in link.addresses:
                if (
                    address.address in said
                    and address.address != facts.ssh_address
                    and leads_out(facts, link)
                ):
                    yield host, link, address


def _borne_elsewhere(evidence: Evidence, told: Set[str]) -> Iterator[Hit]:
    """An address of the network in use that another machine has too, if only on a card that is down: it
    reaches itself there, whatever its routes say."""
    owners = {entry.address: entry.host for entry in evidence.network.hosts if entry.address not in told}
    machines = {host: machine(facts) for host, facts in evidence.facts.items()}
    for host, facts in evidence.facts.items():
        for link in facts.interfaces:
            for address in link.addresses:
                owner = owners.get(address.address, host)
                if machines.get(owner, machines[host]) != machines[host]:
                    yield Hit(
                        hosts=(host,),
                        observed=f"its {link.name}{'' if is_usable(link) else ', which is down,'} bears "
                        f"{address.address}, the address of {owner}",
                        expected="an address of its own on each",
                        fix=_without(address.address, address.prefix, link.name),
                    )


def _without(text: str, prefix: int, link: str) -> Remedy:
    whole = f"{text}/{prefix}" if address_of(text) else None
    return shell("sudo ip addr del {} dev {}", values=(whole, ifname(link)), until_boot=True)


def _one_of_them(evidence: Evidence, text: str, bearers: Bearers) -> Fix:
    """Who is to keep it only a person knows; to take it from where SSH arrives would cut the connection."""
    advice = "give one of them another address"
    if sum(evidence.facts[host].ssh_address == text for host, _, _ in bearers.values()) > 1:
        return (
            "these are containers, or machines behind address translation: give them their hosts' network "
            "(docker run --network=host), or one network in which each has an address of its own"
        )
    for host, link, prefix in reversed(bearers.values()):
        if evidence.facts[host].ssh_address != text:
            return _taken_from(host, text, prefix, link)
    return advice


def _taken_from(host: str, text: str, prefix: int, link: Interface) -> Remedy:
    line = " && ".join(_without(text, prefix, link.name).commands)
    return Remedy(
        advice="give one of them another address",
        instead=(f"take it from {host}: {line}",) if line else (),
    )


def _joins_hosts(evidence: Evidence, text: str, bearers: Bearers) -> bool:
    """docker0 and its like bear one address everywhere and lead nowhere: an address matters on a real
    interface, where SSH arrives, and where other hosts have theirs beside it."""
    if any(is_wired(evidence.facts[host], link) for host, link, _ in bearers.values()):
        return True
    if any(facts.ssh_address == text for facts in evidence.facts.values()):
        return True
    subnets = {ip_network(f"{text}/{prefix}", strict=False) for _, _, prefix in bearers.values()}
    beside = {entry.address for entry in evidence.network.hosts}
    if all(leads_out(evidence.facts[host], link) for host, link, _ in bearers.values()):
        beside.update(
            address.address
            for facts in evidence.facts.values()
            for link in facts.interfaces
            if is_usable(link) and leads_out(facts, link)
            for address in link.addresses
        )
    return any(ip_address(each) in subnet for each in beside - {text} for subnet in subnets)


RULES: tuple[Rule, ...] = (
    Rule(
        code="ip.duplicate",
        severity="fail",
        looks_at="one address on two machines, where it leads to the other hosts",
        judge=duplicate_addresses,
        needs=("interfaces",),
        symptom="a peer connects to itself, or to whichever machine answers first, and hangs",
        fix="give one of them another address",
    ),
)
