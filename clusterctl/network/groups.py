"""Groups of addresses, one for each host, that form one network: same NIC both ways, or one subnet."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import permutations
from statistics import median

import msgspec

from clusterctl.facts.addresses import ip_network
from clusterctl.facts.model import Facts, Interface
from clusterctl.network.candidates import Network, is_wired
from clusterctl.network.traffic import Proof, Traffic

NCCL_ASSUMED_SPEED = 10_000
"""Mbit/s that NCCL takes for an interface whose driver does not say."""


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One host's place in a group. ``first`` is false for a further address of its interface."""

    host: str
    link: Interface
    address: str
    subnet: Network
    wired: bool
    first: bool
    ssh: bool
    """This is the address our SSH session arrived at."""


class Group(msgspec.Struct, frozen=True):
    """``members`` in inventory order; ``failed`` counts ordered pairs whose traffic did not pass."""

    members: tuple[Member, ...]
    failed: int
    proven: bool
    latency: float

    @property
    def rank(self) -> tuple[object, ...]:
        """Sorts the best group first; the interface index keeps equal ones in a fixed order."""
        return (
            -len(self.members),
            self.failed,
            self.kind,
            sum(not member.first for member in self.members),
            -self.speed,
            not self.one_mtu,
            -min(member.link.mtu for member in self.members),
            -sum(member.ssh for member in self.members),
            round(self.latency, 3),
            self.members[0].link.index,
            self.members[0].address,
        )

    @property
    def kind(self) -> int:
        """0 all on real NICs, 1 some, 2 wireless, 3 overlays and bridges, 4 loopback."""
        wired = sum(member.wired for member in self.members)
        if wired:
            return 0 if wired == len(self.members) else 1
        kinds = {member.link.kind for member in self.members}
        if "loopback" in kinds:
            return 4
        return 2 if kinds == {"wireless"} else 3

    @property
    def speed(self) -> int:
        """Mbit/s of the slowest member."""
        return min(member.link.speed or NCCL_ASSUMED_SPEED for member in self.members)

    @property
    def one_mtu(self) -> bool:
        return len({member.link.mtu for member in self.members}) == 1

    @property
    def subnet(self) -> str:
        """``10.0.5.0/24``, or several of them where routers join the hosts."""
        subnets = list(dict.fromkeys(str(member.subnet) for member in self.members))
        return subnets[0] if len(subnets) == 1 else f"{', '.join(subnets[:3])}{', …' * (len(subnets) > 3)}"


def members(facts: Facts, pairs: tuple[tuple[str, str], ...]) -> tuple[Member, ...]:
    """The candidates of one host with what ranking needs to know about them."""
    links = {link.name: link for link in facts.interfaces}
    built = []
    for name, text in pairs:
        link = links[name]
        of_link = next(address for address in link.addresses if address.address == text)
        same_family = [address for address in link.addresses if address.family == of_link.family]
        built.append(
            Member(
                host=facts.host,
                link=link,
                address=text,
                subnet=ip_network(f"{text}/{of_link.prefix}", strict=False),
                wired=is_wired(facts, link),
                first=same_family[0] == of_link,
                ssh=text == facts.ssh_address,
            )
        )
    return tuple(built)


def groups(
    pools: Mapping[str, tuple[Member, ...]], facts: Mapping[str, Facts], traffic: Traffic
) -> list[Group]:
    """Every group that can be grown from any member, best first. Hosts without a counterpart stay out."""
    seen: set[tuple[str, str]] = set()
    usual = {} if traffic.asked else _by_subnet(pools)
    found: dict[tuple[tuple[str, str], ...], Group] = {}
    for pool in pools.values():
        for seed in pool:
            if (seed.host, seed.address) in seen:
                continue
            if traffic.asked:
                grown = tuple(_grow(seed, pools, traffic))
            else:
                beside = usual[seed.subnet]
                grown = tuple(seed if each.host == seed.host else each for each in beside)
            key = tuple((member.host, member.address) for member in grown)
            if key not in found:
                found[key] = _weigh(grown, traffic)
            # Without traffic, those whom others would take would all grow this very group.
            if len(grown) == len(pools) or (not traffic.asked and grown == usual[seed.subnet]):
                seen.update(key)
    whole = [group for group in found.values() if len(group.members) == len(pools)]
    if not whole and not traffic.asked:
        routed = _by_route(pools, facts)
        if routed:
            found[()] = _weigh(routed, traffic)
    return sorted(found.values(), key=lambda group: group.rank)


def _by_subnet(pools: Mapping[str, tuple[Member, ...]]) -> dict[Network, tuple[Member, ...]]:
    """Subnet -> of each host that has an address in it, the one that others there would take."""
    found: defaultdict[Network, dict[str, Member]] = defaultdict(dict)
    for host, pool in pools.items():
        for member in pool:
            taken = found[member.subnet].get(host)
            if taken is None or (member.first and not taken.first):
                found[member.subnet][host] = member
    return {subnet: tuple(members.values()) for subnet, members in found.items()}


def _grow(seed: Member, pools: Mapping[str, tuple[Member, ...]], traffic: Traffic) -> Iterator[Member]:
    for host, pool in pools.items():
        if host == seed.host:
            yield seed
            continue
        fitting = [member for member in pool if _one_network(seed, member, traffic)] or [
            member for member in pool if member.subnet == seed.subnet
        ]
        if fitting:
            yield min(fitting, key=lambda member: (member.subnet != seed.subnet, not member.first))


def _one_network(near: Member, far: Member, traffic: Traffic) -> bool:
    """Each leaves towards the other by the very interface in question; else both sit in one subnet."""
    out = traffic.device(near.host, far.address)
    back = traffic.device(far.host, near.address)
    if out and back:
        return out == near.link.name and back == far.link.name
    return near.subnet == far.subnet


def _by_route(pools: Mapping[str, tuple[Member, ...]], facts: Mapping[str, Facts]) -> tuple[Member, ...]:
    """Without a common subnet and without traffic: where SSH arrives, else where the default route leaves."""
    chosen = []
    for host, pool in pools.items():
        default = facts[host].default_device
        usual = [member for member in pool if member.ssh or member.link.name == default]
        if not usual:
            return ()
        chosen.append(min(usual, key=lambda member: not member.ssh))
    return tuple(chosen)


def _proof(near: Member, far: Member, traffic: Traffic) -> Proof:
    """Traffic that leaves by another interface than the group's proves nothing for the group."""
    device = traffic.device(near.host, far.address)
    return "failed" if device and device != near.link.name else traffic.proof(near.host, far.address)


def _weigh(grown: tuple[Member, ...], traffic: Traffic) -> Group:
    if not traffic.asked:
        return Group(grown, 0, False, 0.0)
    pairs = [
        (near, far)
        for near, far in permutations(grown, 2)
        if not traffic.sampled or traffic.tried(near.host, far.address)
    ]
    proofs = [_proof(near, far, traffic) for near, far in pairs]
    latencies = [
        seconds for near, far in pairs if (seconds := traffic.latency(near.host, far.address)) is not None
    ]
    return Group(
        grown,
        proofs.count("failed"),
        (len(grown) == 1 or bool(proofs)) and all(proof == "ok" for proof in proofs),
        median(latencies) if latencies else 0.0,
    )
