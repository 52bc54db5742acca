"""What one host's facts and the chosen network tell; traffic between hosts is judged in `traffic`."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

import msgspec

from clusterctl.checks.consistency import deviations
from clusterctl.checks.ip import duplicate_addresses
from clusterctl.checks.net.settings import gloo_name, nccl_name
from clusterctl.checks.remedy import Remedy, ifname, shell
from clusterctl.checks.rule import Blocked, Evidence, Hit, Judge, NotKnown, Rule, Skipped, Verdict
from clusterctl.facts.addresses import ip_address, ip_network
from clusterctl.facts.model import Facts, Interface
from clusterctl.network.candidates import is_usable
from clusterctl.network.model import HostNetwork

SLOW_SPEED = 1_000
"""Mbit/s below which a link is rather a bad cable than a choice."""
OVERLAYS = {"wireless": "Wi-Fi", "wireguard": "a WireGuard tunnel", "tun": "a tunnel"}


def over_chosen(judge: Judge) -> Judge:
    """Skips what needs a chosen network where there is none, or where the network is only simulated."""

    def over(evidence: Evidence) -> Iterator[Verdict]:
        if evidence.simulated:
            yield Skipped("simulated: all hosts share this machine's network")
        elif not evidence.network.hosts:
            yield Skipped("no network was chosen")
        else:
            yield from judge(evidence)

    return over


def _link(facts: Facts, entry: HostNetwork) -> Interface:
    return next(link for link in facts.interfaces if link.name == entry.ifname)


def _choice(evidence: Evidence) -> Iterator[Verdict]:
    network = evidence.network
    if network.problem and evidence.facts:
        covered = {entry.host for entry in network.hosts}
        outside = tuple(host for host in evidence.facts if host not in covered)
        if _told_by_others(evidence).issuperset(outside):
            yield from (
                Blocked(host, "see what its address or its settings are said to be") for host in outside
            )
        else:
            yield Hit(hosts=outside, observed=network.problem, expected="one network that all hosts share")
    if len(network.hosts) > 1 and not evidence.simulated:
        yield Hit(
            hosts=tuple(entry.host for entry in network.hosts),
            observed=f"network {network.subnet}, "
            + ("proven by traffic both ways" if network.proven else "not proven by traffic"),
            severity="info",
        )
        for other in network.alternatives:
            yield Hit(
                hosts=tuple(other.members),
                observed=f"also possible: {other.subnet} ({other.reason})",
                severity="info",
            )


def _told_by_others(evidence: Evidence) -> set[str]:
    """Hosts that no network takes in because of a setting or an address that another rule fails."""
    verdicts = (*duplicate_addresses(evidence), *nccl_name(evidence), *gloo_name(evidence))
    return {
        host
        for verdict in verdicts
        if isinstance(verdict, Hit) and verdict.severity in (None, "fail")
        for host in verdict.hosts
    }


def _same_name(evidence: Evidence) -> Iterator[Verdict]:
    names: defaultdict[str, list[str]] = defaultdict(list)
    for entry in evidence.network.hosts:
        names[entry.ifname].append(entry.host)
    if len(names) > 1:
        parts = ", ".join(f"{name} on {len(hosts)} host(s)" for name, hosts in names.items())
        yield Hit(
            hosts=tuple(entry.host for entry in evidence.network.hosts),
            observed=f"the interface has different names ({parts}): variables must be set per host",
        )


def _dual_subnet(evidence: Evidence) -> Iterator[Verdict]:
    for host, facts in evidence.facts.items():
        subnets: defaultdict[str, list[str]] = defaultdict(list)
        for link in facts.interfaces:
            if is_usable(link) and link.kind not in ("loopback", "bridge"):
                for address in link.addresses:
                    if address.family == "inet" and not ip_address(address.address).is_link_local:
                        subnet = ip_network(f"{address.address}/{address.prefix}", strict=False)
                        subnets[str(subnet)].append(link.name)
        for subnet_text, links in subnets.items():
            if len(set(links)) > 1:
                yield Hit(
                    hosts=(host,),
                    observed=f"{' and '.join(dict.fromkeys(links))} are both in {subnet_text}",
                    expected="one interface per subnet",
                )


def _mtu(evidence: Evidence) -> Iterator[Verdict]:
    entries = {entry.host: entry for entry, _ in evidence.linked}
    mtus = Counter(entry.mtu for entry in entries.values())
    most = max(mtus.values(), default=0)
    # Of two that are as frequent, the smaller passes everywhere.
    wanted = min((mtu for mtu, count in mtus.items() if count == most), default=0)
    for hit in deviations({host: f"MTU {entry.mtu}" for host, entry in entries.items()}):
        for host in hit.hosts:
            own = entries[host]
            fix = shell(
                "sudo ip link set dev {} mtu {}", values=(ifname(own.ifname), wanted), until_boot=True
            )
            yield msgspec.structs.replace(
                hit, hosts=(host,), fix=fix if own.mtu != wanted else "", cause=hit.observed
            )


def _speed(evidence: Evidence) -> Iterator[Verdict]:
    entries = {entry.host: entry for entry, _ in evidence.linked if entry.speed}
    slow = {host for host, entry in entries.items() if (entry.speed or 0) < SLOW_SPEED}
    for host in slow:
        yield Hit(
            hosts=(host,),
            observed=f"link at {entries[host].speed} Mbit/s",
            expected="1 Gb/s or more",
            cause=f"{entries[host].speed}",
            fix=_cable(entries[host].ifname),
        )
    told = {
        host: f"{(entry.speed or 0) / 1000:g} Gb/s"
        for host, entry in entries.items()
        if host not in slow and entry.physical
    }
    for hit in deviations(told, of="link at"):
        for host in hit.hosts:
            fix = _cable(entries[host].ifname)
            yield msgspec.structs.replace(hit, hosts=(host,), fix=fix, cause=hit.observed)


def _cable(link: str) -> Remedy:
    return shell(
        "sudo ethtool {}",
        values=(ifname(link),),
        looks=True,
        advice="try another cable or another port of the switch",
    )


def _overlay(evidence: Evidence) -> Iterator[Verdict]:
    for entry, facts in evidence.linked:
        kind = _link(facts, entry).kind
        if kind in OVERLAYS:
            yield Hit(
                hosts=(entry.host,),
                observed=f"{entry.ifname} is {OVERLAYS[kind]}",
                expected="a cable between the hosts",
                cause=kind,
            )


def _rp_filter(evidence: Evidence) -> Iterator[Verdict]:
    for entry, facts in evidence.chosen:
        subnet = next(
            ip_network(f"{address.address}/{address.prefix}", strict=False)
            for address in _link(facts, entry).addresses
            if address.address == entry.address
        )
        beside = [
            link.name
            for link in facts.interfaces
            if link.name != entry.ifname
            and is_usable(link)
            and any(
                ip_address(address.address) in subnet
                for address in link.addresses
                if address.family == "inet" and subnet.version == 4
            )
        ]
        if beside and _link(facts, entry).rp_filter == 1:
            yield Hit(
                hosts=(entry.host,),
                observed=f"rp_filter=1 on {entry.ifname}, with {beside[0]} in the same subnet",
                expected="rp_filter=2",
                cause="strict",
                fix=_loosened(entry.ifname),
            )


def _loosened(link: str) -> Remedy:
    name = ifname(link)  # sysctl parts its words at dots, and takes slashes for those within
    word = f"net.ipv4.conf.{name.replace('.', '/')}.rp_filter=2" if name else None
    return shell("sudo sysctl -w {}", values=(word,), until_boot=True)


def _interfaces_known(evidence: Evidence) -> Iterator[Verdict]:
    for host, facts in evidence.facts.items():
        if not facts.interfaces:
            yield NotKnown(host, "no network interface could be read")
        elif any(link.kind == "loopback" and not link.up for link in facts.interfaces):
            yield Hit(
                hosts=(host,),
                observed="lo is down: no process reaches another on its own host",
                fix=shell("sudo ip link set dev lo up"),
            )


RULES: tuple[Rule, ...] = (
    Rule(
        code="net.choice",
        severity="fail",
        looks_at="one network that all hosts share, proven by traffic where it was asked for",
        judge=_choice,
        symptom="ranks cannot find one another: a hang at init_process_group",
        fix="connect the hosts to one network, or --exclude those outside it",
    ),
    Rule(
        code="net.interfaces",
        severity="fail",
        looks_at="whether the host's interfaces could be read at all, and its loopback is up",
        judge=_interfaces_known,
        needs=("interfaces",),
        symptom="rank 0 does not reach its own store, and ranks of one host not one another",
    ),
    Rule(
        code="net.same-name",
        severity="info",
        looks_at="the chosen interface's name on all hosts",
        judge=over_chosen(_same_name),
        needs=("interfaces",),
    ),
    Rule(
        code="net.dual-subnet",
        severity="warn",
        looks_at="two interfaces of one host in one subnet",
        judge=_dual_subnet,
        needs=("interfaces",),
        symptom="all traffic leaves by one of them whatever is asked: half the bandwidth, or one-way paths",
        fix="give each interface a subnet of its own, or source routing rules",
    ),
    Rule(
        code="net.rp_filter",
        severity="warn",
        looks_at="reverse-path filtering where two interfaces share a subnet",
        judge=over_chosen(_rp_filter),
        needs=("interfaces",),
        symptom="packets arrive and are silently thrown away",
    ),
    Rule(
        code="net.mtu",
        severity="warn",
        looks_at="the MTU over the chosen network",
        judge=over_chosen(_mtu),
        needs=("interfaces",),
        symptom="small messages pass and large ones may hang",
        fix="set one MTU on all hosts and on the switches between",
    ),
    Rule(
        code="net.speed",
        severity="warn",
        looks_at="the link speed over the chosen network",
        judge=over_chosen(_speed),
        needs=("interfaces",),
        symptom="the slowest link sets the pace of every all-reduce",
    ),
    Rule(
        code="net.wireless-overlay",
        severity="warn",
        looks_at="whether the chosen interface is Wi-Fi or a tunnel",
        judge=over_chosen(_overlay),
        needs=("interfaces",),
        symptom="gradients crawl, and a roaming host aborts the run",
        fix="connect the hosts by cable; clusterctl chooses it by itself",
    ),
)
