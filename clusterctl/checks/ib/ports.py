"""RDMA ports as they are, whoever uses them: how many, in what state, how fast."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping

from clusterctl.checks.consistency import deviations
from clusterctl.checks.remedy import shell
from clusterctl.checks.rule import Blocked, Evidence, Hit, Judge, Rule, Skipped, Verdict
from clusterctl.facts.model import Facts
from clusterctl.facts.rdma import RdmaPort
from clusterctl.network.rdma import adapters, is_active, select


def where_present(judge: Judge) -> Judge:
    """Skips a cluster without an adapter that NCCL's own RDMA transport is made for."""

    def over(evidence: Evidence) -> Iterator[Verdict]:
        if any(adapters(facts) for facts in evidence.facts.values()):
            yield from judge(evidence)
        elif any(facts.rdma for facts in evidence.facts.values()):
            yield Skipped("no RDMA device on any host that NCCL uses by itself")
        else:
            yield Skipped("no RDMA device on any host")

    return over


def active(facts: Facts) -> tuple[RdmaPort, ...]:
    return tuple(port for port in adapters(facts) if is_active(port))


def used(evidence: Evidence) -> Mapping[str, tuple[RdmaPort, ...]]:
    """Host -> the ports a run would use; the active ones of each where a run would use none."""
    return select(evidence.facts) or {host: active(facts) for host, facts in evidence.facts.items()}


def by_name(evidence: Evidence) -> Mapping[str, Mapping[str, RdmaPort]]:
    """``mlx5_0:1`` -> host -> that port, of every adapter."""
    found: defaultdict[str, dict[str, RdmaPort]] = defaultdict(dict)
    for host, facts in evidence.facts.items():
        for port in adapters(facts):
            found[port.name][host] = port
    return found


def _present(evidence: Evidence) -> Iterator[Verdict]:
    """Ports that are there; whether they work is told by the rules about state, manager and library."""
    lacking = tuple(host for host, facts in evidence.facts.items() if not adapters(facts))
    if lacking:
        having = len(evidence.facts) - len(lacking)
        yield Hit(
            hosts=lacking,
            observed="no RDMA port",
            expected=f"one or more, as on {having} of {len(evidence.facts)} hosts",
        )
        return
    yield from deviations({host: f"{count} RDMA port(s)" for host, count in _meant(evidence).items()})


def _meant(evidence: Evidence) -> Mapping[str, int]:
    """Host -> how many ports a run uses, or would if they were as on most hosts."""
    chosen = select(evidence.facts)
    if not chosen:
        return {host: len(adapters(facts)) for host, facts in evidence.facts.items()}
    bearers = Counter(port.name for ports in chosen.values() for port in ports)
    return {
        host: sum(
            port in ports or bearers[port.name] * 2 > len(chosen) for port in adapters(evidence.facts[host])
        )
        for host, ports in chosen.items()
    }


def _down_here(evidence: Evidence) -> Iterator[tuple[str, RdmaPort]]:
    """Ports that are down on a host and up on most hosts that have them."""
    for bearers in by_name(evidence).values():
        down = [host for host, port in bearers.items() if not is_active(port)]
        if len(down) * 2 < len(bearers):
            yield from ((host, bearers[host]) for host in down)


def _state(evidence: Evidence) -> Iterator[Verdict]:
    here = {(host, port.name) for host, port in _down_here(evidence)}
    anybody = any(active(facts) for facts in evidence.facts.values())
    for host, facts in evidence.facts.items():
        others_work = bool(active(facts))
        for port in adapters(facts):
            if is_active(port):
                continue
            if _without_manager(port):
                yield Blocked(host, f"{port.name} knows no subnet manager")
                continue
            matters = (host, port.name) in here or (anybody and not others_work)
            yield Hit(
                hosts=(host,),
                observed=f"{port.name} is {port.state}, {port.physical_state}",
                expected="ACTIVE, LinkUp",
                cause=f"{port.state} {port.physical_state} {matters}",
                severity="warn" if matters else "info",
                fix=shell("ibstat", looks=True, advice=f"look at the cable of {port.name}")
                if matters
                else "",
            )


def _rate(evidence: Evidence) -> Iterator[Verdict]:
    """A port against the same port of the other hosts; of an adapter of another model that is no fault."""
    slow: set[str] = set()
    for name, bearers in by_name(evidence).items():
        rates = {host: port.rate for host, port in bearers.items() if is_active(port) and port.rate}
        usual, count = _usual(rates)
        for host, rate in rates.items():
            if rate < usual:
                slow.add(host)
                models = {bearers[other].model for other in rates if rates[other] == usual}
                same = bearers[host].model in models
                yield Hit(
                    hosts=(host,),
                    observed=f"{name} runs at {rate:g} Gb/s"
                    + f": it is a {bearers[host].model}" * (not same),
                    expected=f"{usual:g} Gb/s, as on {count} of {len(rates)} hosts",
                    severity="fail" if same else "warn",
                    fix=shell(
                        "ibstat", looks=True, advice=f"look at the cable of {name} and at the switch's port"
                    )
                    if same
                    else "give each host the same adapter, or accept the pace of the slowest",
                    cause=f"{rate:g} of {usual:g} {same}",
                )
    best = {
        host: max(port.rate or 0.0 for port in active(facts))
        for host, facts in evidence.facts.items()
        if active(facts)
    }
    usual, count = _usual(best)
    for host, rate in best.items():
        if rate < usual and host not in slow:
            yield Hit(
                hosts=(host,),
                observed=f"its fastest port runs at {rate:g} Gb/s",
                expected=f"{usual:g} Gb/s, as on {count} of {len(best)} hosts",
                severity="warn",
                cause=f"best {rate:g} of {usual:g}",
            )


def _usual(rates: Mapping[str, float]) -> tuple[float, int]:
    """The rate that most have, of equally many the higher one, and how many have it."""
    ranked = Counter(rates.values()).items()
    return max(ranked, key=lambda item: (item[1], item[0]), default=(0.0, 0))


def _without_manager(port: RdmaPort) -> bool:
    linked = port.link_layer == "InfiniBand" and "LinkUp" in port.physical_state.replace(" ", "")
    return linked and not port.sm_lid


def _subnet_manager(evidence: Evidence) -> Iterator[Verdict]:
    chosen = select(evidence.facts)
    for host, facts in evidence.facts.items():
        for port in adapters(facts):
            if _without_manager(port):
                spared = host in chosen and port not in chosen[host]
                yield Hit(
                    hosts=(host,),
                    observed=f"{port.name} knows no subnet manager",
                    severity="warn" if spared else "fail",
                    cause=f"no manager {spared}",
                )


def _firmware(evidence: Evidence) -> Iterator[Verdict]:
    """Against adapters of the same model only."""
    models: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for host, facts in evidence.facts.items():
        told: defaultdict[str, set[str]] = defaultdict(set)
        for port in active(facts):
            if port.firmware:
                told[port.model].add(port.firmware)
        for model, versions in told.items():
            models[model][host] = ", ".join(sorted(versions))
    for model, of_host in models.items():
        yield from deviations(of_host, of=f"{model or 'adapter'}: firmware")


RULES: tuple[Rule, ...] = (
    Rule(
        code="ib.present",
        severity="warn",
        looks_at="RDMA ports on all hosts, as many on each, or on none",
        judge=where_present(_present),
        needs=("rdma",),
        symptom="NCCL hangs when only some hosts have RDMA; clusterctl therefore switches it off everywhere",
        fix=shell("ls /sys/class/infiniband", "lspci | grep -i -e mellanox -e infiniband", looks=True),
    ),
    Rule(
        code="ib.state",
        severity="warn",
        looks_at="the state of every RDMA port",
        judge=where_present(_state),
        needs=("rdma",),
        symptom="NCCL does not use the port",
    ),
    Rule(
        code="ib.rate",
        severity="fail",
        looks_at="the rate of each usable port against the same port of the other hosts",
        judge=where_present(_rate),
        needs=("rdma",),
        symptom="half the bandwidth on every all-reduce",
        fix=shell("ibstat", looks=True, advice="look at the cable and at the switch's port"),
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
        code="ib.fw",
        severity="info",
        looks_at="the firmware of adapters of one model",
        judge=where_present(_firmware),
        needs=("rdma",),
    ),
)
