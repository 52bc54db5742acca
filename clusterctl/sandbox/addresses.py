"""Which subnet each network of a sandbox gets, and which address each card. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Interface, IPv4Network

import msgspec

from clusterctl.errors import ClusterctlError, UsageError
from clusterctl.sandbox.spec import HostSpec

PREFIX = 24
_PAIRS_BY_ARP = 400


class WiredNic(msgspec.Struct, frozen=True, kw_only=True):
    """A card with its address (``""``: none) and the switch port at the other end of its cable."""

    name: str
    network: str
    bridge: str
    port: str
    mac: str = ""
    address: str
    prefix: int
    mtu: int | None


class WiredNetwork(msgspec.Struct, frozen=True, kw_only=True):
    """A switch. ``controller`` is the address of the user's machine on it (``""``: not attached)."""

    name: str
    bridge: str
    subnet: str
    controller: str


def plan_addresses(
    sandbox: str, hosts: Sequence[HostSpec], taken: Iterable[IPv4Network]
) -> tuple[tuple[WiredNetwork, ...], tuple[tuple[WiredNic, ...], ...]]:
    """Networks (that of SSH first) and, for each host in order, its wired cards.

    A network has the subnet of the first address given on it, else a free 10.x.y.0/24: ``taken`` lists the
    subnets that must stay untouched. Hosts get .1, .2, ... and the controller the subnet's last address.
    """
    given = _given_subnets(hosts)
    busy = [*taken, *given.values()]
    names = dict.fromkeys(nic.network for host in hosts for nic in host.nics)
    subnets: dict[str, IPv4Network] = {}
    for name in names:
        subnets[name] = given.get(name) or _free_subnet(f"{sandbox}/{name}", busy)
        busy.append(subnets[name])
    bridges = {name: f"br{index}" for index, name in enumerate(subnets)}
    first = hosts[0].nics[0].network
    networks = tuple(
        WiredNetwork(
            name=name,
            bridge=bridges[name],
            subnet=str(subnet),
            controller=str(subnet[-2]) if name == first else "",
        )
        for name, subnet in subnets.items()
    )
    used = {
        str(IPv4Interface(_with_prefix(nic.address)).ip) for host in hosts for nic in host.nics if nic.address
    }
    used.add(networks[0].controller)
    wired = []
    for index, host in enumerate(hosts):
        cards = []
        for number, nic in enumerate(host.nics):
            address, prefix = _address(nic.address, subnets[nic.network], index, used)
            cards.append(
                WiredNic(
                    name=nic.name,
                    network=nic.network,
                    bridge=bridges[nic.network],
                    port=f"h{index + 1}n{number}",
                    mac=f"02:cc:00:{index + 1:02x}:{number >> 8:02x}:{number & 0xFF:02x}",
                    address=address,
                    prefix=prefix,
                    mtu=nic.mtu,
                )
            )
        wired.append(tuple(cards))
    return networks, tuple(wired)


def known_neighbours(cards: Iterable[Sequence[WiredNic]]) -> dict[str, tuple[tuple[str, str], ...]]:
    """(address, Ethernet address) of every card, by network, for a sandbox that must not ask by ARP; else {}.

    The kernel has one table of answers for the whole machine, 1024 at most, and permanent entries do not
    count: 64 hosts that all speak to each other would fill it, for the user's own network too.
    """
    networks: dict[str, list[tuple[str, str]]] = {}
    for host in cards:
        for card in host:
            if card.address:
                networks.setdefault(card.network, []).append((card.address, card.mac))
    pairs = sum(len(members) * (len(members) - 1) for members in networks.values())
    if pairs <= _PAIRS_BY_ARP:
        return {}
    return {name: tuple(members) for name, members in networks.items()}


def _address(wish: str | None, subnet: IPv4Network, index: int, used: set[str]) -> tuple[str, int]:
    if wish == "":
        return "", subnet.prefixlen
    if wish:
        given = IPv4Interface(_with_prefix(wish))
        return str(given.ip), given.network.prefixlen
    # Host 3 is .3 wherever it can be: addresses are easier to read that way.
    for offset in (index + 1, *range(1, subnet.num_addresses - 1)):
        candidate = str(subnet[offset]) if offset < subnet.num_addresses - 1 else ""
        if candidate and candidate not in used:
            used.add(candidate)
            return candidate, subnet.prefixlen
    raise UsageError(f"the subnet {subnet} has no address left for host number {index + 1}")


def _given_subnets(hosts: Sequence[HostSpec]) -> dict[str, IPv4Network]:
    found: dict[str, IPv4Network] = {}
    for host in hosts:
        for nic in host.nics:
            if nic.address:
                try:
                    subnet = IPv4Interface(_with_prefix(nic.address)).network
                except ValueError as error:
                    raise UsageError(f"{host.name}: {nic.name}: {error}") from error
                found.setdefault(nic.network, subnet)
    return found


def _with_prefix(address: str) -> str:
    return address if "/" in address else f"{address}/{PREFIX}"


def _free_subnet(seed: str, busy: Sequence[IPv4Network]) -> IPv4Network:
    start = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:4], "big")
    for step in range(1 << 16):
        place = (start + step) % (1 << 16)
        candidate = IPv4Network((0x0A000000 | place << 8, PREFIX))
        if not any(candidate.overlaps(other) for other in busy):
            return candidate
    raise ClusterctlError("every 10.x.y.0/24 on this machine is in use", hint="clusterctl sandbox down --all")
