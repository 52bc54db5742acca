"""What NCCL needs to use RDMA: one kind of link, a library, devices it may open, GIDs, names."""

from __future__ import annotations

from collections.abc import Iterator

from clusterctl.checks.consistency import deviations
from clusterctl.checks.ib.ports import active, where_present
from clusterctl.checks.remedy import ifname, install, shell
from clusterctl.checks.rule import Evidence, Hit, Judge, Rule, Skipped, Verdict
from clusterctl.network.ifname import parse_nccl
from clusterctl.network.rdma import GIDS_CHOSEN, adapters, common_gid, nccl_version, select, usable_ports

_GLOO = "no GPU on any host: gloo does not use RDMA"


def _where_nccl(judge: Judge) -> Judge:
    def over(evidence: Evidence) -> Iterator[Verdict]:
        if not evidence.has_gpus:
            yield Skipped(_GLOO)
        else:
            yield from judge(evidence)

    return over


def _link_layer(evidence: Evidence) -> Iterator[Verdict]:
    """A fault where no kind of link is common to all; a port of another kind besides stays out of a run."""
    layers = {
        host: " + ".join(sorted({port.link_layer for port in usable_ports(facts)}))
        for host, facts in evidence.facts.items()
        if usable_ports(facts)
    }
    if not select({host: evidence.facts[host] for host in layers}):
        yield from deviations(layers)


def _libraries(evidence: Evidence) -> Iterator[Verdict]:
    for host, facts in evidence.facts.items():
        if adapters(facts) and facts.verbs_library is False:
            yield Hit(
                hosts=(host,),
                observed="libibverbs.so.1 is missing",
                expected="installed",
                fix=install(facts.os_release, apt="ibverbs-providers", dnf="libibverbs"),
            )


def _devices(evidence: Evidence) -> Iterator[Verdict]:
    for host, facts in evidence.facts.items():
        if adapters(facts) and facts.verbs_devices is False:
            yield Hit(
                hosts=(host,),
                observed=f"{facts.user} may not open /dev/infiniband/uverbs*",
                expected="read and write",
            )


def _gids(evidence: Evidence) -> Iterator[Verdict]:
    """NCCL looks for a GID of RoCE version 2 with an IPv4 address, unless it is told an index."""
    ports = {
        host: [port for port in active(facts) if port.link_layer == "Ethernet" and port.gids is not None]
        for host, facts in evidence.facts.items()
    }
    some = any(port.gids for own in ports.values() for port in own)
    yield from _without_common_index(evidence)
    for host, own in ports.items():
        told = _value(evidence, host, "NCCL_IB_GID_INDEX")
        for port in own:
            if told.isdigit() and int(told) not in (port.gids or ()):
                yield Hit(
                    hosts=(host,),
                    observed=f"NCCL_IB_GID_INDEX={told} is none of RoCE v2 with IPv4 on {port.device}",
                    expected=f"one of {', '.join(map(str, port.gids or ()))}" if port.gids else "",
                    fix="unset it: NCCL 2.21 and newer choose by themselves",
                    cause="index",
                )
            elif some and not port.gids and not told:
                yield Hit(
                    hosts=(host,),
                    observed=f"{port.device} has no GID with an IPv4 address",
                    expected=f"an IPv4 address on {port.netdev or 'its network device'}",
                    fix=shell(
                        "ip addr show dev {}",
                        values=(ifname(port.netdev),),
                        looks=True,
                        advice="give it an IPv4 address",
                    )
                    if port.netdev
                    else "",
                    cause="none",
                )


def _without_common_index(evidence: Evidence) -> Iterator[Verdict]:
    """An NCCL that does not choose takes one index for all ports of a host."""
    for host, ports in select(evidence.facts).items():
        nccl = nccl_version(evidence.facts[host])
        roce = ports[0].link_layer == "Ethernet" and all(port.gids for port in ports)
        if roce and nccl and nccl < GIDS_CHOSEN and common_gid(ports) is None:
            told = "; ".join(f"{port.name}: {', '.join(map(str, port.gids or ()))}" for port in ports)
            yield Hit(
                hosts=(host,),
                observed=f"no GID index of RoCE v2 with IPv4 is common to its ports ({told})",
                expected=f"one index, as NCCL {nccl} takes one for all",
                fix="install a torch with NCCL 2.21 or newer, which chooses for each port",
                cause="no common index",
            )


def _value(evidence: Evidence, host: str, name: str) -> str:
    setting = evidence.setting(host, name)
    found = [each.value for each in evidence.facts[host].variables if each.name == name]
    return setting.value if setting else next(iter(found), "")


def _hca(evidence: Evidence) -> Iterator[Verdict]:
    """A name without ``=`` is the beginning of names: a whole one may fit others, ``mlx5`` is meant to."""
    asked = False
    whole = {port.device for facts in evidence.facts.values() for port in facts.rdma}
    for host, facts in evidence.facts.items():
        value = _value(evidence, host, "NCCL_IB_HCA")
        wanted = parse_nccl(",".join(part.partition(":")[0] for part in value.split(",")))
        if wanted is None or not facts.rdma:
            continue
        asked = True
        devices = list(dict.fromkeys(port.device for port in facts.rdma))
        fitting = [name for name in devices if wanted.admits(name)]
        own = tuple(name for name in wanted.names if name in whole)
        others = sorted(name for name in fitting if name not in own and name.startswith(own))
        if not fitting:
            yield Hit(
                hosts=(host,),
                observed=f"NCCL_IB_HCA={value} matches no RDMA device",
                expected=f"some of {', '.join(devices)}",
                cause=value,
            )
        elif others and not wanted.exact and not wanted.excludes:
            yield Hit(
                hosts=(host,),
                observed=f"NCCL_IB_HCA={value} also matches {', '.join(others)}",
                expected=f"NCCL_IB_HCA=={value}",
                severity="warn",
                cause=value,
            )
    if not asked:
        yield Skipped("NCCL_IB_HCA is set nowhere")


def _peer_memory(evidence: Evidence) -> Iterator[Verdict]:
    """Only where GPUs and RDMA meet; where no host has it, that may be meant."""
    told = {
        host: facts.peer_memory
        for host, facts in evidence.facts.items()
        if active(facts) and facts.nvidia.gpus and facts.peer_memory is not None
    }
    lacking = tuple(host for host, has in told.items() if not has)
    if lacking:
        yield Hit(
            hosts=lacking,
            observed="nvidia_peermem is not loaded",
            expected="loaded, as on the other hosts" if len(lacking) < len(told) else "",
            severity="warn" if len(lacking) < len(told) else "info",
        )


RULES: tuple[Rule, ...] = (
    Rule(
        code="ib.linklayer",
        severity="fail",
        looks_at="InfiniBand or Ethernet",
        judge=where_present(_where_nccl(_link_layer)),
        needs=("rdma", "gpus"),
        symptom="NCCL refuses to join ports of two kinds",
        fix="name ports of one kind in NCCL_IB_HCA, for each host under `hosts:` of the profile",
    ),
    Rule(
        code="ib.libs",
        severity="fail",
        looks_at="libibverbs where there is an RDMA device",
        judge=where_present(_where_nccl(_libraries)),
        needs=("rdma", "gpus"),
        symptom="NCCL uses TCP without a word: ten times slower",
        fix="install libibverbs and its providers",
    ),
    Rule(
        code="ib.devices",
        severity="fail",
        looks_at="whether the user may open the RDMA devices",
        judge=where_present(_where_nccl(_devices)),
        needs=("rdma", "gpus"),
        symptom="NCCL uses TCP without a word: ten times slower",
        fix=shell(
            "sudo chmod 666 /dev/infiniband/uverbs*",
            instead=("in a container, start it with --device /dev/infiniband",),
            until_boot=True,
        ),
    ),
    Rule(
        code="ib.gid",
        severity="fail",
        looks_at="GIDs of RoCE ports, and NCCL_IB_GID_INDEX",
        judge=where_present(_where_nccl(_gids)),
        needs=("rdma", "gpus", "settings"),
        symptom="“ibv_modify_qp failed”, or a hang at the first collective",
    ),
    Rule(
        code="ib.hca",
        severity="fail",
        looks_at="a NCCL_IB_HCA of the user's, with NCCL's grammar",
        judge=where_present(_hca),
        needs=("rdma", "settings"),
        symptom="NCCL uses other adapters than meant, or TCP",
        fix="unset it: clusterctl names the ports of each host",
    ),
    Rule(
        code="ib.peer-memory",
        severity="warn",
        looks_at="nvidia_peermem, or the driver's open modules, where GPUs and RDMA meet",
        judge=where_present(_where_nccl(_peer_memory)),
        needs=("rdma", "gpus"),
        symptom="every byte takes the way through the host's memory: a fraction of the bandwidth",
        fix=shell("sudo modprobe nvidia_peermem", until_boot=True),
    ),
)
