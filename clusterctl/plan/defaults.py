"""What clusterctl sets on each host where nobody else did, from what the hosts told. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from clusterctl.facts.model import Facts
from clusterctl.inventory.model import Inventory
from clusterctl.plan import caches, threads
from clusterctl.plan.model import Setting
from clusterctl.plan.variables import strongest

DEVICE_ORDER = "CUDA_DEVICE_ORDER"
PCI_BUS = "PCI_BUS_ID"


def of_hosts(
    inventory: Inventory,
    facts: Mapping[str, Facts],
    own: Mapping[str, tuple[Setting, ...]],
    *,
    home_caches: bool = False,
) -> dict[str, tuple[Setting, ...]]:
    """All that each host's run gets: ``own`` is the user's and wins. ``home_caches`` leaves compiled kernels
    in the home directory, shared or not."""
    omp = threads.settings(inventory, facts)
    return {
        host.name: strongest(
            own[host.name],
            omp[host.name],
            _device_order(facts[host.name]),
            () if home_caches else caches.settings(facts[host.name], own[host.name]),
        )
        for host in inventory.hosts
    }


def device_order(facts: Facts, own: tuple[Setting, ...]) -> tuple[str, str]:
    """(value, origin) of an order of devices that is not the one in which slots count; else two empty texts.

    The slots of a hostfile are `nvidia-smi`'s numbers, which are those of the PCI bus.
    """
    told = [(each.value, each.origin) for each in own if each.name == DEVICE_ORDER]
    told += [(each.value, "set there") for each in facts.variables if each.name == DEVICE_ORDER]
    value, origin = told[0] if told else (PCI_BUS, "")
    return ("", "") if not facts.nvidia.gpus or value == PCI_BUS else (value, origin)


def _device_order(facts: Facts) -> tuple[Setting, ...]:
    """CUDA counts the fastest card first, unless it is told."""
    known = any(each.name == DEVICE_ORDER for each in facts.variables)
    if known or not facts.nvidia.gpus:
        return ()
    return (Setting(DEVICE_ORDER, PCI_BUS, "clusterctl: slots count as nvidia-smi does"),)
