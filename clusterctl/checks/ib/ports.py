"""RDMA ports as they are, whoever uses them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import msgspec

from clusterctl.checks.consistency import deviations, middle_of_others
from clusterctl.checks.remedy import ifname, shell
from clusterctl.checks.rule import Evidence, Hit, Judge, Rule, Skipped, Verdict
from clusterctl.facts.model import Facts, RdmaPort
from clusterctl.network.rdma import is_active, select

MANY_DOWNS = 5


def where_present(judge: Judge) -> Judge:
    def over(evidence: Evidence) -> Iterator[Verdict]:
        if not any(facts.rdma for facts in evidence.facts.values()):
            yield Skipped("no RDMA device on any host")
        else:
            yield from judge(evidence)

    return over


def _present(evidence: Evidence) -> Iterator[Verdict]:
    """Ports that are there; whether they work is told by the rules about state, manager and library."""
    counts = {host: len(facts.rdma) for host, facts in evidence.facts.items()}
    lacking = tuple(host for host, count in counts.items() if not count)
    if lacking:
        yield Hit(
            hosts=lacking,
            observed="no RDMA port",
            expected=f"one or more, as on {len(counts) - len(lacking)} of {len(counts)} hosts",
        )
    else:
        yield from deviations({host: f"{count} RDMA port(s)" for host, count in counts.items()})


def active(facts: Facts) -> tuple[RdmaPort, ...]:
    return tuple(port for port in facts.rdma if is_active(port))


def _state(evidence: Evidence) -> Iterator[Verdict]:
    for host, facts in evidence.facts.items():
        others_work = bool(active(facts))
        for port in facts.rdma:
            if not is_active(port):
                yield Hit(
                    hosts=(host,),
                    observed=f"{port.device}:{port.port} is {port.state}, {port.physical_state}",
                    expected="ACTIVE, LinkUp",
                    cause=f"{port.state} {port.physical_state} {others_work}",
                    severity="info" if others_work else "warn",
                )


def _rate(evidence: Evidence) -> Iterator[Verdict]:
    best = {
        host: f"{max(port.rate or 0.0 for port in active(facts)):g} Gb/s"
        for host, facts in evidence.facts.items()
        if active(facts)
    }
    yield from deviations(best)


def _subnet_manager(evidence: Evidence) -> Iterator[Verdict]:
    for host, facts in evidence.facts.items():
        for port in facts.rdma:
            linked = port.link_layer == "InfiniBand" and "LinkUp" in port.physical_state.replace(" ", "")
            if linked and not port.sm_lid:
                yield Hit(
                    hosts=(host,),
                    observed=f"{port.device}:{port.port} knows no subnet manager",
                    cause="no manager",
                )


def _mtu(evidence: Evidence) -> Iterator[Verdict]:
    roce = {
        host: ports
        for host, ports in select(evidence.facts).items()
        if ports and ports[0].link_layer == "Ethernet" and all(port.netdev_mtu for port in ports)
    }
    mtus = {host: min(port.netdev_mtu or 0 for port in ports) for host, ports in roce.items()}
    for hit in deviations({host: f"MTU {mtu}" for host, mtu in mtus.items()}):
        wanted = Counter(mtus.values()).most_common(1)[0][0]
        for host in hit.hosts:
            cards = tuple(port.netdev for port in roce[host] if port.netdev_mtu != wanted)
            fix = shell(
                *["sudo ip link set dev {} mtu {}"] * len(cards),
                values=tuple(value for card in cards for value in (ifname(card), wanted)),
                until_boot=True,
            )
            yield msgspec.structs.replace(hit, hosts=(host,), fix=fix if cards else "", cause=hit.observed)


def _counters(evidence: Evidence) -> Iterator[Verdict]:
    worst = {
        host: max((port.link_downed or 0 for port in active(facts)), default=0)
        for host, facts in evidence.facts.items()
    }
    others = middle_of_others(worst)
    for host, count in worst.items():
        if host in others and count >= MANY_DOWNS and count >= 4 * others[host]:
            yield Hit(
                hosts=(host,),
                observed=f"an RDMA link went down {count} times since its counters began",
                expected="about never, as on the other hosts",
                cause="downs",
            )


def _firmware(evidence: Evidence) -> Iterator[Verdict]:
    versions = {
        host: ", ".join(sorted({port.firmware for port in active(facts) if port.firmware}))
        for host, facts in evidence.facts.items()
    }
    yield from deviations({host: version for host, version in versions.items() if version})


RULES: tuple[Rule, ...] = (
    Rule(
        code="ib.present",
        severity="warn",
        looks_at="RDMA ports on all hosts or on none",
        judge=where_present(_present),
        needs=("rdma",),
        symptom="NCCL hangs when only some hosts have RDMA; clusterctl therefore switches it off everywhere",
        fix="repair the host's RDMA, or accept TCP",
    ),
    Rule(
        code="ib.state",
        severity="warn",
        looks_at="the state of every RDMA port",
        judge=where_present(_state),
        needs=("rdma",),
        symptom="NCCL does not use the port",
        fix=shell("ibstat", looks=True, advice="check the cable and the subnet manager"),
    ),
    Rule(
        code="ib.rate",
        severity="fail",
        looks_at="the fastest usable port of each host",
        judge=where_present(_rate),
        needs=("rdma",),
        symptom="half the bandwidth on every all-reduce",
        fix=shell("ibstat", looks=True, advice="check the cable and the port"),
    ),
    Rule(
        code="ib.sm",
        severity="fail",
        looks_at="the subnet manager's lid on InfiniBand ports that have a link",
        judge=where_present(_subnet_manager),
        needs=("rdma",),
        symptom="the port stays in INIT",
        fix="start opensm on one host, or the switch's own",
    ),
    Rule(
        code="ib.mtu",
        severity="fail",
        looks_at="the MTU of the network devices under RoCE",
        judge=where_present(_mtu),
        needs=("rdma",),
        symptom="small messages pass, large ones hang",
        fix="set one MTU on all hosts and on the switches between",
    ),
    Rule(
        code="ib.counters",
        severity="warn",
        looks_at="how often RDMA links went down, against the other hosts",
        judge=where_present(_counters),
        needs=("rdma",),
        symptom="“Got completion with error 12” hours into the run",
        fix=shell("perfquery", looks=True, advice="reseat or replace the cable"),
    ),
    Rule(
        code="ib.fw",
        severity="info",
        looks_at="the adapters' firmware",
        judge=where_present(_firmware),
        needs=("rdma",),
    ),
)
