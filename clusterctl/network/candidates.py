"""Which addresses of a host could carry the training traffic, before any of it is proven."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network
from typing import TypeAlias

from clusterctl.facts.addresses import ip_address, ip_network
from clusterctl.facts.model import Address, Facts, Interface

WIRED = frozenset({"physical", "bond", "vlan"})
Machine: TypeAlias = tuple[object, ...]
Network: TypeAlias = IPv4Network | IPv6Network


def candidates(facts: Mapping[str, Facts]) -> dict[str, tuple[tuple[str, str], ...]]:
    """Host -> (interface, address) pairs worth probing, in the order the node listed them.

    IPv4, or global IPv6 when not every host has an IPv4 candidate but every host has an IPv6 one. An address
    that another machine bears too (docker0, virbr0) is nobody's: that machine would reach itself, even by an
    interface that is down. Where its interface is down or has no carrier, the address stays with the one that
    can use it if it is its only one in a network that others use: a finding, but no reason to be left out.
    Loopback counts only when all hosts are one machine. A host without any candidate has an empty tuple.
    """
    found = {family: _of_family(facts, family) for family in ("inet", "inet6")}
    four, six = found["inet"], found["inet6"]
    return six if not all(four.values()) and six and all(six.values()) else four


def machine(facts: Facts) -> Machine:
    """What tells machines (or network namespaces) apart: equal for two entries that name the same one."""
    links = frozenset((link.name, link.mac) for link in facts.interfaces if link.kind != "loopback")
    addresses = frozenset(address.address for _, address in _addresses(facts))
    if not facts.boot_id or not addresses:
        return (facts.host,)
    return (facts.boot_id, links, addresses)


def is_wired(facts: Facts, link: Interface) -> bool:
    """True for a real NIC, a bond or VLAN, and a bridge that a real NIC is plugged into."""
    if link.kind == "bridge":
        return any(other.bridge_of == link.name and other.kind in WIRED for other in facts.interfaces)
    return link.kind in WIRED


def leads_out(facts: Facts, link: Interface) -> bool:
    """True also for a container's card, which is one end of a veth; the other end is in a bridge."""
    return is_wired(facts, link) or (link.kind == "veth" and not link.bridge_of)


def is_usable(link: Interface) -> bool:
    """True when packets can leave by it now. A driver that does not report carrier is believed."""
    return link.up and link.running and link.carrier is not False


def borne(facts: Facts) -> set[str]:
    """All addresses by which the host reaches itself: one on an interface that is down is still its own."""
    return {address.address for link in facts.interfaces for address in link.addresses}


def _of_family(facts: Mapping[str, Facts], family: str) -> dict[str, tuple[tuple[str, str], ...]]:
    machines = {host: machine(of_host) for host, of_host in facts.items()}
    one_machine = len(set(machines.values())) == 1
    bearers: defaultdict[str, set[Machine]] = defaultdict(set)
    users: defaultdict[str, set[Machine]] = defaultdict(set)
    for host, of_host in facts.items():
        for link, address in _addresses(of_host):
            bearers[address.address].add(machines[host])
            if is_usable(link):
                users[address.address].add(machines[host])
    usable = {
        host: [
            (link.name, address)
            for link, address in _addresses(of_host, loopback=one_machine)
            if address.family == family and is_usable(link) and len(users[address.address]) <= 1
        ]
        for host, of_host in facts.items()
    }
    neighbours: defaultdict[Network, set[Machine]] = defaultdict(set)
    for host, pairs in usable.items():
        for _, address in pairs:
            if len(bearers[address.address]) <= 1:
                neighbours[_network(address)].add(machines[host])

    def is_needed(host: str, address: Address) -> bool:
        others = neighbours[_network(address)]
        return bool(others) and machines[host] not in others

    return {
        host: tuple(
            (name, address.address)
            for name, address in pairs
            if len(bearers[address.address]) <= 1 or is_needed(host, address)
        )
        for host, pairs in usable.items()
    }


def _network(address: Address) -> Network:
    return ip_network(f"{address.address}/{address.prefix}", strict=False)


def _addresses(facts: Facts, *, loopback: bool = False) -> list[tuple[Interface, Address]]:
    return [
        (link, address)
        for link in facts.interfaces
        for address in link.addresses
        if not ip_address(address.address).is_link_local
        and (
            loopback
            or (link.kind != "loopback" and link.name != "lo" and not ip_address(address.address).is_loopback)
        )
    ]
