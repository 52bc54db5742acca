"""How many threads each rank may use where it does not have a machine to itself. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from clusterctl.facts.model import Facts
from clusterctl.inventory.model import Inventory
from clusterctl.plan.model import Setting

THREADS = "OMP_NUM_THREADS"


def settings(inventory: Inventory, facts: Mapping[str, Facts]) -> dict[str, tuple[Setting, ...]]:
    """OMP_NUM_THREADS for each host on whose machine several ranks will run: cores by ranks, at least 1.

    torchrun sets 1 for several ranks on a host, which starves ZeRO-Offload's optimizer, and nothing for one,
    though hosts that are containers share the cores of their machine: equal boot ids tell. A host that has
    the variable in its sessions keeps its own.
    """
    machines = {host.name: facts[host.name].boot_id or host.name for host in inventory.hosts}
    ranks = Counter[str]()
    for host in inventory.hosts:
        ranks[machines[host.name]] += len(host.slots)
    return {host.name: _of(facts[host.name], ranks[machines[host.name]]) for host in inventory.hosts}


def _of(facts: Facts, ranks: int) -> tuple[Setting, ...]:
    own = any(each.name == THREADS and each.origin == "environment" for each in facts.variables)
    if ranks == 1 or own:
        return ()
    threads = max(1, facts.cpus // ranks)
    return (Setting(THREADS, str(threads), f"clusterctl: {ranks} ranks share {facts.cpus} core(s)"),)
