"""What runs over the ports: MTU, partitions, and what their counters remember."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import msgspec

from clusterctl.checks.consistency import deviations, middle_of_others
from clusterctl.checks.ib.ports import active, used, where_present
from clusterctl.checks.remedy import Remedy, ifname, shell
from clusterctl.checks.rule import Blocked, Evidence, Hit, Rule, Verdict
from clusterctl.network.rdma import select

MANY_DOWNS = 5
MANY_CHANGES = 20
MANY_ERRORS = 1_000
FULL_MEMBER = 0x8000
"""The bit of a partition key without which a port may talk to full members only."""


def _mtu(evidence: Evidence) -> Iterator[Verdict]:
    """Of the network devices under RoCE; net.mtu tells of the one that TCP uses as well."""
    chosen = {entry.host: (entry.ifname, entry.mtu) for entry in evidence.network.hosts}
    of_tcp = deviations({host: str(mtu) for host, (_, mtu) in chosen.items()})
    told = {host for hit in of_tcp for host in hit.hosts}
    roce = {
        host: ports
        for host, ports in select(evidence.facts).items()
        if ports and ports[0].link_layer == "Ethernet" and all(port.netdev_mtu for port in ports)
    }
    mtus = {host: min(port.netdev_mtu or 0 for port in ports) for host, ports in roce.items()}
    differ = False
    for hit in deviations({host: f"MTU {mtu}" for host, mtu in mtus.items()}):
        differ = True
        wanted = Counter(mtus.values()).most_common(1)[0][0]
        for host in hit.hosts:
            cards = tuple(port.netdev for port in roce[host] if port.netdev_mtu != wanted)
            if host in told and chosen.get(host) in [(card, mtus[host]) for card in cards]:
                yield Blocked(host, "net.mtu tells of it")
                continue
            fix = shell(
                *["sudo ip link set dev {} mtu {}"] * len(cards),
                values=tuple(value for card in cards for value in (ifname(card), wanted)),
                until_boot=True,
            )
            yield msgspec.structs.replace(hit, hosts=(host,), fix=fix if cards else "", cause=hit.observed)
    in_use = {
        host: min(port.active_mtu or 0 for port in ports)
        for host, ports in used(evidence).items()
        if ports and all(port.active_mtu for port in ports)
    }
    if not differ:
        yield from deviations(
            {host: f"RDMA MTU {mtu}" for host, mtu in in_use.items()},
            severity="warn",
        )


def _pkey(evidence: Evidence) -> Iterator[Verdict]:
    keys: dict[str, set[int]] = {}
    for host, ports in used(evidence).items():
        told = {
            int(port.pkey, 16)
            for port in ports
            if port.link_layer == "InfiniBand" and port.pkey.startswith("0x")
        }
        if told and evidence.setting(host, "NCCL_IB_PKEY") is None:
            keys[host] = told
    partitions = {
        host: ", ".join(sorted(f"0x{key & ~FULL_MEMBER:04x}" for key in told)) for host, told in keys.items()
    }
    yield from deviations(partitions, of="InfiniBand partition")
    limited = tuple(host for host, told in keys.items() if any(key and not key & FULL_MEMBER for key in told))
    if len(limited) > 1:
        yield Hit(
            hosts=limited,
            observed="limited members of their InfiniBand partition, who may not talk to one another",
            expected="full members",
            severity="fail",
        )


def _counters(evidence: Evidence) -> Iterator[Verdict]:
    """Since the counters began, which nobody knows: only against the other hosts."""
    downs = {
        host: max((port.link_errors.get("link_downed", 0) for port in active(facts)), default=0)
        for host, facts in evidence.facts.items()
    }
    others = middle_of_others(downs)
    for host, count in downs.items():
        if host in others and count >= MANY_DOWNS and count >= 4 * others[host]:
            yield Hit(
                hosts=(host,),
                observed=f"an RDMA link went down {count} times since its counters began",
                expected="about never, as on the other hosts",
                cause="downs",
            )
    errors = {
        host: Counter(
            {
                (port.name, name): count
                for port in active(facts)
                for name, count in port.link_errors.items()
                if name != "link_downed"
            }
        )
        for host, facts in evidence.facts.items()
    }
    yield from _many(errors, "counters", shell("perfquery -x", looks=True))


def _hardware_counters(evidence: Evidence) -> Iterator[Verdict]:
    retries = {
        host: Counter(
            {(port.name, name): count for port in active(facts) for name, count in port.retries.items()}
        )
        for host, facts in evidence.facts.items()
    }
    yield from _many(retries, "sent again", shell("rdma statistic show", looks=True))


def _many(counted: dict[str, Counter[tuple[str, str]]], cause: str, look: Remedy) -> Iterator[Hit]:
    others = middle_of_others({host: sum(counts.values()) for host, counts in counted.items()})
    for host, counts in counted.items():
        total = sum(counts.values())
        if host in others and total >= MANY_ERRORS and total >= 10 * others[host]:
            (port, name), count = counts.most_common(1)[0]
            yield Hit(
                hosts=(host,),
                observed=f"{port}: {name} {count}",
                expected=f"few, as the {others[host]:g} on other hosts",
                fix=msgspec.structs.replace(look, advice=f"look at the cable of {port}"),
                cause=cause,
            )


def _flaps(evidence: Evidence) -> Iterator[Verdict]:
    """Of the network devices under the ports; net.flaps tells of the one that TCP uses as well."""
    chosen = {entry.host: entry.ifname for entry in evidence.network.hosts}
    worst: dict[str, tuple[int, str]] = {}
    for host, ports in used(evidence).items():
        names = {port.netdev for port in ports} - {"", chosen.get(host, "")}
        links = [link for link in evidence.facts[host].interfaces if link.name in names]
        worst[host] = max(((link.carrier_changes or 0, link.name) for link in links), default=(0, ""))
    others = middle_of_others({host: count for host, (count, _) in worst.items()})
    for host, (count, name) in worst.items():
        if host in others and count >= MANY_CHANGES and count >= 4 * others[host]:
            yield Hit(
                hosts=(host,),
                observed=f"the link of {name} went up or down {count} times since boot",
                expected="a few times, as on the other hosts",
                fix=shell("sudo dmesg -T | grep {}", values=(ifname(name),), looks=True),
                cause="flaps",
            )


RULES: tuple[Rule, ...] = (
    Rule(
        code="ib.mtu",
        severity="fail",
        looks_at="the MTU of the network devices under RoCE, and of RDMA messages where ibv_devinfo tells it",
        judge=where_present(_mtu),
        needs=("rdma",),
        symptom="small messages pass, large ones hang",
        fix="set one MTU on all hosts and on the switches between",
    ),
    Rule(
        code="ib.pkey",
        severity="fail",
        looks_at="the InfiniBand partition at index 0, which NCCL uses",
        judge=where_present(_pkey),
        needs=("rdma",),
        symptom="queue pairs never connect: “Got completion with error 12”",
        fix="give all hosts full membership in one partition, at the subnet manager",
    ),
    Rule(
        code="ib.counters",
        severity="warn",
        looks_at="links that went down and errors on them, against the other hosts",
        judge=where_present(_counters),
        needs=("rdma",),
        symptom="“Got completion with error 12” hours into the run",
        fix=shell("perfquery", looks=True, advice="reseat or replace the cable"),
    ),
    Rule(
        code="ib.hwcounters",
        severity="warn",
        looks_at="what RDMA adapters had to send again, against the other hosts",
        judge=where_present(_hardware_counters),
        needs=("rdma",),
        symptom="a lossy network under RoCE: slow, or “error 12”, when many hosts send at once",
    ),
    Rule(
        code="ib.flaps",
        severity="warn",
        looks_at="how often the links under RDMA ports have changed since boot, against the other hosts",
        judge=where_present(_flaps),
        needs=("rdma", "interfaces"),
        symptom="the run ends when the link goes down for a moment",
    ),
)
