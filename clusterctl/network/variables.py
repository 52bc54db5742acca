"""The variables that make NCCL, Gloo and TensorPipe use the chosen interface of one host."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from clusterctl.facts.model import Facts, RdmaPort
from clusterctl.network.groups import Member
from clusterctl.network.ifname import GLOO, NCCL, TENSORPIPE, VARIABLES
from clusterctl.network.model import Setting

FAST_SOCKET = 100_000
"""Mbit/s from which one TCP stream per peer no longer fills the link."""


def user_settings(facts: Facts, settings: Iterable[Setting]) -> dict[str, Setting]:
    """By name, as the user decided: ``settings`` for this run, else what the host itself has."""
    # The environment comes first among a host's variables, and NCCL lets it win over its files.
    on_host = {
        variable.name: Setting(variable.name, variable.value, f"{variable.origin} on {facts.host}")
        for variable in reversed(facts.variables)
        if variable.name in VARIABLES
    }
    return {**on_host, **{setting.name: setting for setting in settings}}


def variables(
    member: Member,
    *,
    master_addr: str,
    rdma: tuple[RdmaPort, ...],
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
    if not any(name.startswith("NCCL_IB_") for name in settings):
        why, chosen = _rdma_or_sockets(rdma, speed)
        values.update(chosen)
        origins.update(dict.fromkeys(chosen, why))
    return values, origins


def _rdma_or_sockets(rdma: tuple[RdmaPort, ...], speed: int) -> tuple[str, dict[str, str]]:
    if rdma:
        ports = ",".join(f"{port.device}:{port.port}" for port in rdma)
        return "clusterctl: RDMA ports of one rate on all hosts", {"NCCL_IB_HCA": f"={ports}"}
    sockets = {"NCCL_IB_DISABLE": "1"}
    if speed >= FAST_SOCKET:
        sockets |= {"NCCL_SOCKET_NTHREADS": "4", "NCCL_NSOCKS_PERTHREAD": "4"}
    return "clusterctl: no RDMA on all hosts", sockets
