"""Links that are dead, faster or flap, and what the kernel keeps for a network: ports and neighbours."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network

import msgspec

from clusterctl.checks.consistency import deviations, middle_of_others
from clusterctl.checks.net.interfaces import over_chosen
from clusterctl.checks.net.paths import Paths, edges
from clusterctl.checks.remedy import Remedy, ifname, shell
from clusterctl.checks.rule import Blocked, Evidence, Hit, Rule, Verdict
from clusterctl.facts.addresses import ip_address, ip_network
from clusterctl.facts.model import Facts, Interface
from clusterctl.network.candidates import is_usable, is_wired, leads_out
from clusterctl.network.groups import NCCL_ASSUMED_SPEED
from clusterctl.network.model import Candidate
from clusterctl.network.repeats import NOT_FAILED

FEW_PORTS = 1_000
MANY_CHANGES = 20
"""Changes of the link since boot: cables are plugged and switches restarted a few times."""
NEIGHBOURS_PER_HOST = 2
MANY_ERRORS = 1_000
CONNECTIONS_FULL = 0.8

_CABLE = "try another cable or another port of the switch"

Subnet = IPv4Network | IPv6Network


def _faster(evidence: Evidence) -> Iterator[Verdict]:
    """A faster network than the chosen one that all but a few hosts are in, or whose traffic failed."""
    chosen = min(
        (entry.speed or NCCL_ASSUMED_SPEED for entry in evidence.network.hosts), default=NCCL_ASSUMED_SPEED
    )
    for subnet, members in _fast_subnets(evidence).items():
        speed = min(link.speed or 0 for link in members.values())
        lacking = [host for host in evidence.facts if host not in members]
        for host in lacking if speed > chosen else ():
            facts = evidence.facts[host]
            if _dead_links(facts, subnet) or 1 < len(members) > len(lacking):
                yield Hit(
                    hosts=(host,),
                    observed=f"not in {subnet}, at {speed / 1000:g} Gb/s: {_why_not(facts, subnet)}",
                    expected=f"{speed / 1000:g} Gb/s, as on {len(members)} of {len(evidence.facts)} hosts",
                    cause=str(subnet),
                )
    for other in evidence.network.alternatives:
        yield from _failed(evidence, other, chosen)
        yield from _slow_members(evidence, other, chosen)


def _fast_subnets(evidence: Evidence) -> dict[Subnet, dict[str, Interface]]:
    """Subnet -> host -> its interface there, where the driver tells a speed."""
    found: defaultdict[Subnet, dict[str, Interface]] = defaultdict(dict)
    for host, facts in evidence.facts.items():
        for link in facts.interfaces:
            if link.speed and is_usable(link) and leads_out(facts, link):
                for address in link.addresses:
                    if not ip_address(address.address).is_link_local:
                        subnet = ip_network(f"{address.address}/{address.prefix}", strict=False)
                        found[subnet].setdefault(host, link)
    return found


def _dead_links(facts: Facts, subnet: Subnet) -> list[str]:
    """Interfaces without a link that have an address in ``subnet``."""
    return [
        link.name
        for link in facts.interfaces
        if leads_out(facts, link)
        and not is_usable(link)
        and any(ip_address(address.address) in subnet for address in link.addresses)
    ]


def _why_not(facts: Facts, subnet: Subnet) -> str:
    wired = [link for link in facts.interfaces if leads_out(facts, link) and not link.bridge_of]
    dead = _dead_links(facts, subnet) or [link.name for link in wired if not is_usable(link)]
    bare = [link.name for link in wired if is_usable(link) and not link.addresses]
    if dead:
        return f"{', '.join(dead)} has no link"
    return f"{', '.join(bare)} has no address" if bare else "no interface has an address there"


def _failed(evidence: Evidence, other: Candidate, chosen: int) -> Iterator[Verdict]:
    """All hosts are in it, yet its traffic did not pass: the hosts that most of the failed paths touch."""
    speeds = [
        link.speed or 0
        for host, ifname in other.members.items()
        if host in evidence.facts
        for link in evidence.facts[host].interfaces
        if link.name == ifname
    ]
    if not speeds or min(speeds) <= chosen or not evidence.reachability.asked:
        return
    addresses = set(other.addresses.values())
    bad = {
        (dial.source, dial.target)
        for dial in evidence.reachability.dials
        if dial.address in addresses and dial.is_path and dial.result not in NOT_FAILED
    }
    touched = {host: sum(host in edge for edge in bad) for host in other.members}
    most = max(touched.values(), default=0)
    if most:
        yield Hit(
            hosts=tuple(host for host, count in touched.items() if count == most),
            observed=f"traffic failed in {other.subnet}, which runs at {min(speeds) / 1000:g} Gb/s",
            expected=f"{min(speeds) / 1000:g} Gb/s instead of {chosen / 1000:g}",
        )


def _slow_members(evidence: Evidence, other: Candidate, chosen: int) -> Iterator[Verdict]:
    """A few slow links make a fast network no faster than the chosen one."""
    speeds = {
        host: link.speed
        for host, ifname in other.members.items()
        if host in evidence.facts
        for link in evidence.facts[host].interfaces
        if link.name == ifname and link.speed
    }
    fast = sorted(speed for speed in speeds.values() if speed > chosen)
    slow = {host: speed for host, speed in speeds.items() if speed <= chosen}
    for host, speed in slow.items() if 1 < len(fast) > len(slow) else ():
        yield Hit(
            hosts=(host,),
            observed=f"{other.members[host]}, in {other.subnet}, runs at {speed / 1000:g} Gb/s",
            expected=f"{fast[0] / 1000:g} Gb/s, as on {len(fast)} of {len(evidence.facts)} hosts",
            fix=f"{_CABLE}; then: sudo ethtool {other.members[host]}",
            cause=f"slow in {other.subnet}",
        )


def _carrier(evidence: Evidence) -> Iterator[Verdict]:
    """NCCL up to 2.27 picks an interface that has an address but no cable, unless it is told a name."""
    fast = {host for verdict in _faster(evidence) if isinstance(verdict, Hit) for host in verdict.hosts}
    for host, facts in evidence.facts.items():
        for link in facts.interfaces:
            dead = link.up and link.carrier is False and is_wired(facts, link)
            if dead and any(address.scope == "global" for address in link.addresses):
                if host in fast:
                    yield Blocked(host, f"{link.name}: see net.faster")
                    continue
                yield Hit(
                    hosts=(host,),
                    observed=f"{link.name} has an address but no link",
                    fix=shell(
                        "sudo ip addr flush dev {}",
                        values=(ifname(link.name),),
                        instead=("plug its cable, if the card is to be used",),
                        until_boot=True,
                    ),
                    cause="dead",
                )


def _flaps(evidence: Evidence) -> Iterator[Verdict]:
    changes = {
        entry.host: (entry.ifname, link.carrier_changes)
        for entry, facts in evidence.linked
        for link in facts.interfaces
        if link.name == entry.ifname and link.carrier_changes is not None
    }
    others = middle_of_others({host: count for host, (_, count) in changes.items()})
    for host, (name, count) in changes.items():
        if count >= MANY_CHANGES and count >= 4 * others.get(host, 1):
            yield Hit(
                hosts=(host,),
                observed=f"the link of {name} went up or down {count} times since boot",
                expected="a few times",
                fix=shell("sudo dmesg -T | grep {}", values=(ifname(name),), looks=True, advice=_CABLE),
                cause="flaps",
            )


def _portrange(evidence: Evidence) -> Iterator[Verdict]:
    ranges = {host: facts.port_range for host, facts in evidence.facts.items()}
    counted = Counter(each for each in ranges.values() if each[1] - each[0] + 1 >= FEW_PORTS)
    (low, high), most = counted.most_common(1)[0] if counted else ((32768, 60999), 0)
    usual = f"{low} {high}" if most * 2 > len(ranges) else "32768 60999"
    for host, (low, high) in ranges.items():
        if high - low + 1 < FEW_PORTS:
            yield Hit(
                hosts=(host,),
                observed=f"only {high - low + 1} ports ({low}-{high})",
                expected="1000 or more",
                fix=_sysctl(f"net.ipv4.ip_local_port_range={usual}"),
            )
    wide = {host: f"{low}-{high}" for host, (low, high) in ranges.items() if high - low + 1 >= FEW_PORTS}
    for hit in deviations(wide, of="ports"):
        yield msgspec.structs.replace(hit, fix=_sysctl(f"net.ipv4.ip_local_port_range={usual}"))


def _sysctl(setting: str) -> Remedy:
    return shell("sudo sysctl -w {}", values=(setting,), until_boot=True)


def _errors(evidence: Evidence) -> Iterator[Verdict]:
    counts = {
        entry.host: (entry.ifname, link.errors)
        for entry, facts in evidence.linked
        for link in facts.interfaces
        if link.name == entry.ifname and link.errors is not None
    }
    others = middle_of_others({host: count for host, (_, count) in counts.items()})
    for host, (name, count) in counts.items():
        if host in others and count >= MANY_ERRORS and count >= 10 * others[host]:
            yield Hit(
                hosts=(host,),
                observed=f"{count} packets with errors on {name} since boot",
                expected=f"few, as the {others[host]:g} on other hosts",
                fix=shell("ip -s -s link show {}", values=(ifname(name),), looks=True, advice=_CABLE),
                cause="errors",
            )


def _connections(evidence: Evidence) -> Iterator[Verdict]:
    for host, facts in evidence.facts.items():
        count, most = facts.connections or (0, 0)
        if most and count >= CONNECTIONS_FULL * most:
            yield Hit(
                hosts=(host,),
                observed=f"{count} of {most} connections are tracked",
                expected=f"less than {CONNECTIONS_FULL:.0%}",
                fix=_sysctl(f"net.netfilter.nf_conntrack_max={4 * most}"),
                cause="full",
            )


def _neighbours(evidence: Evidence) -> Iterator[Verdict]:
    """A table that was full while the hosts dialled has lost packets; one that is too small will."""
    needed = NEIGHBOURS_PER_HOST * len(evidence.inventory.hosts)
    failed = {source for source, _ in Paths(evidence, edges(evidence)).failed}
    for host, refused in evidence.reachability.neighbours.items():
        size = evidence.facts[host].neighbours if host in evidence.facts else None
        yield Hit(
            hosts=(host,),
            observed=f"the neighbour table had no room {refused} times while the hosts dialled"
            f"{f': it holds {size} entries' if size else ''}",
            expected="an entry for every host",
            severity="fail" if host in failed else "warn",
            fix=_sysctl(f"net.ipv4.neigh.default.gc_thresh3={max(4096, 2 * needed, 4 * (size or 0))}"),
        )
    for host, facts in evidence.facts.items():
        if host in evidence.reachability.neighbours:
            continue
        if facts.neighbours is not None and facts.neighbours < needed:
            yield Hit(
                hosts=(host,),
                observed=f"the neighbour table holds {facts.neighbours} entries",
                expected=f"{needed} or more for {len(evidence.inventory.hosts)} hosts",
                fix=_sysctl(f"net.ipv4.neigh.default.gc_thresh3={max(4096, 2 * needed)}"),
            )


RULES: tuple[Rule, ...] = (
    Rule(
        code="net.carrier",
        severity="warn",
        looks_at="real interfaces with an address but without a link",
        judge=_carrier,
        needs=("interfaces",),
        symptom="NCCL up to 2.27 may pick it when started by hand: “No route to host”",
    ),
    Rule(
        code="net.faster",
        severity="warn",
        looks_at="a faster network than the chosen one that only a few hosts are missing from",
        judge=over_chosen(_faster),
        needs=("interfaces",),
        symptom="the run takes the slower network without a word",
        fix="mend the interface there, then run doctor again",
    ),
    Rule(
        code="net.flaps",
        severity="warn",
        looks_at="how often the chosen interface's link has changed since boot, against the other hosts",
        judge=over_chosen(_flaps),
        needs=("interfaces",),
        symptom="“Connection reset by peer” or a hang in the middle of a run",
    ),
    Rule(
        code="net.errors",
        severity="warn",
        looks_at="packets with errors on the chosen interface since boot, against the other hosts",
        judge=over_chosen(_errors),
        needs=("interfaces",),
        symptom="retransmissions: this host's part of every all-reduce is slow",
    ),
    Rule(
        code="net.conntrack",
        severity="warn",
        looks_at="the firewall's table of connections",
        judge=_connections,
        needs=("system",),
        symptom="“nf_conntrack: table full, dropping packet”: new connections fail now and then",
    ),
    Rule(
        code="net.neighbours",
        severity="warn",
        looks_at="the size of the kernel's neighbour table, and whether it was full while the hosts dialled",
        judge=_neighbours,
        needs=("system",),
        symptom="“No buffer space available”, and hosts that come and go",
    ),
    Rule(
        code="net.portrange",
        severity="warn",
        looks_at="ip_local_port_range, from which NCCL and Gloo take their listening ports",
        judge=_portrange,
        needs=("routes",),
        symptom="“Cannot assign requested address” in large runs; firewall rules that fit only some hosts",
        fix="set net.ipv4.ip_local_port_range to 32768 60999 on all hosts",
    ),
)
