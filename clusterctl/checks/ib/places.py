"""Where the adapters are: beside which GPUs, in which rail, in whose cloud."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from clusterctl.checks.gpu.asked import numbers
from clusterctl.checks.ib.ports import by_name, where_present
from clusterctl.checks.remedy import shell
from clusterctl.checks.rule import Evidence, Hit, Rule, Skipped, Verdict, never_asked
from clusterctl.facts.model import Facts
from clusterctl.network.rdma import is_adapter, network_of, rails_apart, select

_GOOGLE = "Google"
GOOGLE_RAILS = 4
"""From so many interfaces besides the default one, a machine of Google's has a network for its GPUs."""


def _affinity(evidence: Evidence) -> Iterator[Verdict]:
    """GPUs without an adapter on their own processor, where the other hosts' have one: a card in the wrong
    slot. Alike everywhere it is how the machines are built."""
    far: dict[str, str] = {}
    counts: dict[str, int] = {}
    for host, ports in select(evidence.facts).items():
        cards = evidence.cards(host)
        nodes = {port.numa for port in ports}
        if not cards or None in nodes or any(card.numa is None for card in cards):
            continue
        lonely = tuple(card for card in cards if card.numa not in nodes)
        counts[host] = len(lonely)
        far[host] = numbers(lonely) if lonely else ""
    if not counts:
        yield Skipped("no host tells which processor its GPUs and RDMA adapters are at")
        return
    usual = Counter(counts.values()).most_common(1)[0][0]
    for host, count in counts.items():
        if count:
            worse = count > usual
            yield Hit(
                hosts=(host,),
                observed=f"{far[host]} without an RDMA adapter at the same processor",
                expected=f"{usual or 'none'}, as on the other hosts" if worse else "",
                severity="warn" if worse else "info",
                cause=f"far {worse}",
            )


def _slots(evidence: Evidence) -> Iterator[Verdict]:
    """The PCIe link of an adapter against the same one of the other hosts. Alike everywhere it is the
    mainboard's."""
    asked = False
    for name, bearers in by_name(evidence).items():
        for model in {port.model for port in bearers.values()}:
            told = {host: port.pcie for host, port in bearers.items() if port.model == model and port.pcie}
            asked = asked or bool(told)
            best = max(
                Counter(told.values()).items(), key=lambda each: (each[1], _capacity(each[0])), default=None
            )
            for host, link in told.items():
                if best and _capacity(link) < _capacity(best[0]):
                    yield Hit(
                        hosts=(host,),
                        observed=f"{name} is connected by PCIe {link}",
                        expected=f"{best[0]}, as on {best[1]} of {len(told)} hosts",
                        cause=f"{link} of {best[0]}",
                    )
    if not asked:
        yield Skipped("no host tells how its RDMA adapters are connected")


def _capacity(link: str) -> float:
    speed, _, width = link.partition(" GT/s x")
    return float(speed) * int(width) if width.isdigit() and speed.replace(".", "", 1).isdigit() else 0.0


def _rails(evidence: Evidence) -> Iterator[Verdict]:
    """A rail is the network that one port of each host is in. Where each host has networks of its own, as
    behind routers, nothing can be said."""
    ports = select(evidence.facts)
    known = {
        host: {port.name: network_of(evidence.facts[host], port) for port in own}
        for host, own in ports.items()
    }
    rails = {host: own for host, own in known.items() if len(own) > 1 and all(own.values())}
    if not rails:
        yield Skipped("no host has two RDMA ports in networks that are known")
        return
    counted = Counter(tuple(own.items()) for own in rails.values())
    most, count = counted.most_common(1)[0]
    usual = dict(most)
    for host, own in rails.items():
        if count * 2 > len(rails) and own != usual and own.keys() == usual.keys():
            name = next(name for name in own if own[name] != usual[name])
            yield Hit(
                hosts=(host,),
                observed=f"{name} is in {own[name]}",
                expected=f"{usual[name]}, as on {count} of {len(rails)} hosts",
                cause="crossed",
            )
    if rails_apart(evidence.facts, ports):
        yield Hit(
            hosts=tuple(rails),
            observed=f"{len(usual)} rails, each a network of its own: NCCL_CROSS_NIC=0",
            severity="info",
        )


def _cloud(evidence: Evidence) -> Iterator[Verdict]:
    """A cloud's fast network that NCCL reaches through a plugin only."""
    told: dict[str, str] = {}
    for host, facts in evidence.facts.items():
        if any(port.driver == "efa" for port in facts.rdma):
            told[host] = "EFA, which NCCL reaches through aws-ofi-nccl only"
        elif facts.vendor.startswith(_GOOGLE) and _rails_of_google(facts) >= GOOGLE_RAILS:
            told[host] = "Google's network for GPUs, which NCCL reaches through a plugin only"
    if not told:
        yield Skipped("no cloud's own network on any host")
    for host, network in told.items():
        plugin = evidence.facts[host].python.net_plugin
        found = f"found {plugin}" if plugin else "none was found where the loader looks"
        yield Hit(hosts=(host,), observed=f"{network}: {found}", severity="info")
    lacking = tuple(host for host in evidence.facts if host not in told)
    if lacking and len(lacking) < len(told):
        yield Hit(
            hosts=lacking,
            observed=f"without {next(iter(told.values())).partition(',')[0]}",
            expected=f"as on {len(told)} of {len(evidence.facts)} hosts",
            severity="warn",
            symptom="NCCL hangs, or speaks TCP between all hosts",
            fix="give the machine the same network interfaces as the others, in the cloud's console",
        )


def _rails_of_google(facts: Facts) -> int:
    if not facts.nvidia.gpus or any(is_adapter(port) for port in facts.rdma):
        return 0
    others = [
        link for link in facts.interfaces if link.kind == "physical" and link.name != facts.default_device
    ]
    return len(others)


def _software(evidence: Evidence) -> Iterator[Verdict]:
    for host, facts in evidence.facts.items():
        left = {
            port.name: "RDMA in software" if port.software else "iWARP"
            for port in facts.rdma
            if port.software or port.node_type == "RNIC"
        }
        if left:
            yield Hit(
                hosts=(host,),
                observed="; ".join(
                    f"{name}: {what}, which a run does not use" for name, what in left.items()
                ),
                severity="info",
                cause=", ".join(sorted(set(left.values()))),
            )


RULES: tuple[Rule, ...] = (
    Rule(
        code="ib.affinity",
        severity="warn",
        looks_at="RDMA adapters at the same processor as the GPUs, against the other hosts",
        judge=where_present(_affinity),
        needs=("rdma", "gpus"),
        symptom="this host's data crosses between its processors, and it sets the pace for all",
        fix=shell(
            "nvidia-smi topo -m", looks=True, advice="put the adapter into a slot of the other processor"
        ),
    ),
    Rule(
        code="ib.pcie",
        severity="warn",
        looks_at="the PCIe link of each RDMA adapter against the same one of the other hosts",
        judge=where_present(_slots),
        needs=("rdma",),
        symptom="half the bandwidth on every all-reduce, though the port itself has its full rate",
        fix="reseat the adapter, then look at the slot's setting in the BIOS",
    ),
    Rule(
        code="ib.rails",
        severity="warn",
        looks_at="the network of each RDMA port, against the same port of the other hosts",
        judge=where_present(_rails),
        needs=("rdma", "interfaces"),
        symptom="ports that NCCL pairs cannot reach one another: “ibv_modify_qp failed” or a hang",
        fix=shell("ip -br addr", looks=True, advice="connect each port to the same switch on every host"),
    ),
    Rule(
        code="ib.cloud",
        severity="warn",
        looks_at="EFA and Google's networks for GPUs on all hosts or on none, and their NCCL plugins",
        judge=_cloud,
        needs=("rdma", "gpus", "python", "interfaces"),
    ),
    Rule(
        code="ib.software",
        severity="info",
        looks_at="RDMA in software (rxe, siw) and iWARP adapters, which a run leaves alone",
        judge=_software,
        needs=("rdma",),
    ),
    Rule(
        code="ib.verbs",
        severity="fail",
        looks_at="a connection of two RDMA adapters by the verbs library itself",
        judge=never_asked("it needs two idle adapters: ibv_rc_pingpong -d DEVICE, on one host and the other"),
    ),
    Rule(
        code="ib.bandwidth",
        severity="warn",
        looks_at="what two RDMA adapters carry between them",
        judge=never_asked(
            "it needs idle hosts and perftest: ib_write_bw -d DEVICE, on one host and the other"
        ),
    ),
)
