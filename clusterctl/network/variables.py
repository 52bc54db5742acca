"""The variables that make NCCL, Gloo and TensorPipe use the chosen interface of one host."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from clusterctl.facts.model import Facts
from clusterctl.network.groups import Member
from clusterctl.network.ifname import GLOO, NCCL, TENSORPIPE, VARIABLES
from clusterctl.network.model import Setting
from clusterctl.network.rdma import HostRdma

FAST_SOCKET = 100_000
"""Mbit/s from which one TCP stream per peer no longer fills the link."""
HCA, IB_DISABLE = "NCCL_IB_HCA", "NCCL_IB_DISABLE"
_RDMA = ("NCCL_IB_", "NCCL_CROSS_NIC", "NCCL_SOCKET_NTHREADS", "NCCL_NSOCKS_PERTHREAD")


def user_settings(facts: Facts, settings: Iterable[Setting]) -> dict[str, Setting]:
    """By name, as the user decided: ``settings`` for this run, else what the host itself has."""
    # The environment comes first among a host's variables, and NCCL lets it win over its files.
    on_host = {
        variable.name: Setting(variable.name, variable.value, f"{variable.origin} on {facts.host}")
        for variable in reversed(facts.variables)
        if variable.name in VARIABLES or variable.name.startswith(_RDMA)
    }
    return {**on_host, **{setting.name: setting for setting in settings}}


def variables(
    member: Member,
    *,
    master_addr: str,
    rdma: HostRdma | None,
    speed: int,
    settings: Mapping[str, Setting],
    origin: str,
) -> tuple[dict[str, str], dict[str, str]]:
    """(values, origins) for one host. A name in ``settings`` keeps the user's value."""
    ifname = member.link.name
    ours = {
        NCCL: f"={ifname}",
        GLOO: ifname,
        TENSORPIPE: ifname,
        "NCCL_SOCKET_FAMILY": "AF_INET6" if member.subnet.version == 6 else "AF_INET",
        "MASTER_ADDR": master_addr,
    }
    decided = {name: settings.get(name, Setting(name, value, origin)) for name, value in ours.items()}
    values = {name: setting.value for name, setting in decided.items()}
    origins = {name: setting.origin for name, setting in decided.items()}
    if HCA not in settings and IB_DISABLE not in settings:
        why, chosen = _rdma_or_sockets(rdma, speed)
        for name, value in chosen.items():
            setting = settings.get(name, Setting(name, value, why))
            values[name], origins[name] = setting.value, setting.origin
    return values, origins


def switched_off(settings: Mapping[str, Mapping[str, Setting]]) -> bool:
    """Whether the user took RDMA from any host: NCCL hangs unless all do without it."""
    told = (of_host.get(IB_DISABLE) for of_host in settings.values())
    return any(setting is not None and setting.value == "1" for setting in told)


def agreed(settings: Mapping[str, dict[str, Setting]], has_rdma: bool) -> dict[str, dict[str, Setting]]:
    """Without a NCCL_IB_HCA that some hosts bring where not all have RDMA: those would use it and
    the others not. One that all have is the user's word."""
    if has_rdma or all(HCA in of_host for of_host in settings.values()):
        return dict(settings)
    return {
        host: {name: setting for name, setting in of_host.items() if name != HCA}
        for host, of_host in settings.items()
    }


def _rdma_or_sockets(rdma: HostRdma | None, speed: int) -> tuple[str, dict[str, str]]:
    if rdma is not None:
        chosen = {HCA: f"={','.join(port.name for port in rdma.ports)}"}
        if rdma.gid_index is not None:
            chosen["NCCL_IB_GID_INDEX"] = str(rdma.gid_index)
        if rdma.address_range:
            chosen["NCCL_IB_ADDR_RANGE"] = rdma.address_range
        if rdma.same_rail:
            chosen["NCCL_CROSS_NIC"] = "0"
        return "clusterctl: RDMA ports of one kind on all hosts", chosen
    sockets = {IB_DISABLE: "1"}
    if speed >= FAST_SOCKET:
        sockets |= {"NCCL_SOCKET_NTHREADS": "4", "NCCL_NSOCKS_PERTHREAD": "4"}
    return "clusterctl: no RDMA on all hosts", sockets
