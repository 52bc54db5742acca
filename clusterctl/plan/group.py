"""Which ranks prove a cluster end to end, each with the very variables that a launch would give it. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from clusterctl.facts.gpu import Gpu
from clusterctl.facts.model import Facts, Reachability
from clusterctl.inventory.model import Inventory
from clusterctl.network.model import Network
from clusterctl.network.repeats import NOT_FAILED
from clusterctl.plan.model import RunVariables

IDLE_MEMORY, IDLE_PERCENT = 1 << 30, 5
MOST_BY_DEFAULT = 128
"""Gloo connects every host with every other: beyond so many only when asked to be thorough."""


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A host's part, with its address on the network of the run."""

    host: str
    address: str
    variables: RunVariables


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """``members`` in the order of their ranks. Port 0 is any free one. ``left_out`` is host -> why. Without
    members ``skipped`` says why nobody needs a group, or ``blocked`` what stands in its way."""

    members: tuple[Member, ...] = ()
    master_addr: str = ""
    master_port: int = 0
    left_out: dict[str, str] = {}
    skipped: str = ""
    blocked: str = ""


class Trials(msgspec.Struct, frozen=True, kw_only=True):
    """What is to prove the hosts. ``addresses`` of the chosen network, by host; beyond ``gloo`` all is for
    ``thorough`` only. ``devices`` are those that nobody uses, by host, as torch names them there; ``backend``
    is what lets them talk."""

    gloo: Group
    addresses: dict[str, str] = {}
    thorough: bool = False
    devices: dict[str, tuple[str, ...]] = {}
    backend: str = "nccl"


def idle_devices(inventory: Inventory, facts: Mapping[str, Facts]) -> dict[str, tuple[str, ...]]:
    """The GPUs of the selected slots on which nothing runs, of hosts whose torch sees them."""
    found = {}
    for host in inventory.hosts:
        of_host = facts.get(host.name)
        if of_host is None or of_host.torch is None or not of_host.torch.cuda_available:
            continue
        cards = {card.index: card for card in of_host.nvidia.gpus}
        # The launch shows its ranks the selected ones only, in this order.
        idle = [
            f"cuda:{position}"
            for position, slot in enumerate(host.slots)
            if slot in cards and _is_idle(cards[slot])
        ]
        if idle:
            found[host.name] = tuple(idle)
    return found


def _is_idle(card: Gpu) -> bool:
    return not card.processes and card.memory_used < IDLE_MEMORY and (card.utilization or 0) < IDLE_PERCENT


def one_rank_a_host(
    inventory: Inventory,
    facts: Mapping[str, Facts],
    reachability: Reachability,
    network: Network,
    variables: Mapping[str, RunVariables],
    *,
    thorough: bool = False,
) -> Group:
    """All hosts on which torch can be imported, one rank each.

    Rank 0 is where it would be in a launch, at the same address and port; where that host cannot take part,
    the next one has the store, on its own address and any port.
    """
    left_out = {host: reason for host in facts if (reason := _why_not(facts[host], network))}
    able = [host for host in inventory.names if host in facts and host not in left_out]
    if not any("torch" in of_host.python.packages for of_host in facts.values()):
        return Group(skipped="no torch on any host")
    if len(able) > MOST_BY_DEFAULT and not thorough:
        return Group(skipped=f"{len(able)} hosts, each connected with all others: --thorough")
    if blocked := _obstacle(reachability, network, able):
        return Group(blocked=blocked, left_out=left_out)
    members = []
    for host in able:
        chosen = network.of(host)
        if chosen is not None:
            members.append(Member(host=host, address=chosen.address, variables=variables[host]))
    usual = members[0].host == inventory.names[0]
    return Group(
        members=tuple(members),
        master_addr=network.master_addr if usual else members[0].address,
        master_port=(reachability.master_port or 0) if usual else 0,
        left_out=left_out,
    )


def _why_not(facts: Facts, network: Network) -> str:
    if "torch" not in facts.python.packages:
        return "it has no torch"
    if facts.torch is None or not facts.torch.ok:
        return "`import torch` does not work there: sw.torch-import"
    if not facts.torch.distributed:
        return "its torch has no torch.distributed: sw.torch-import"
    return "" if network.of(facts.host) else "it is not on the network of the others: net.choice"


def _obstacle(reachability: Reachability, network: Network, able: list[str]) -> str:
    if not able:
        return "no host can take part"
    if reachability.master_error:
        return "rank 0 has no port for its store: net.master-port"
    addresses = {entry.address for entry in network.hosts}
    if any(dial.address in addresses and dial.result not in NOT_FAILED for dial in reachability.dials):
        return "not tried: connections between the hosts fail, which other checks tell"
    return ""
