"""The variables that make NCCL, Gloo and TensorPipe use the chosen interface of one host."""

from __future__ import annotations

from collections.abc import Mapping

from clusterctl.facts.model import Facts, RdmaPort
from clusterctl.network.groups import Member
from clusterctl.network.ifname import GLOO, NCCL, TENSORPIPE, VARIABLES

FAST_SOCKET = 100_000
"""Mbit/s from which one TCP stream per peer no longer fills the link."""


def user_settings(facts: Facts, user_env: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Variable -> (value, origin) as the user decided: for this run, else in the host's own settings."""
    # The environment comes first among a host's variables, and NCCL lets it win over its files.
    on_host = {
        variable.name: (variable.value, f"{variable.origin} on {facts.host}")
        for variable in reversed(facts.variables)
        if variable.name in VARIABLES
    }
    return {**on_host, **{name: (value, "your setting") for name, value in user_env.items()}}


def variables(
    member: Member,
    *,
    master_addr: str,
    rdma: tuple[RdmaPort, ...],
    speed: int,
    settings: Mapping[str, tuple[str, str]],
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
    values = {name: settings.get(name, (value, ""))[0] for name, value in ours.items()}
    origins = {name: settings.get(name, ("", origin))[1] for name in ours}
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
