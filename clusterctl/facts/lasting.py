"""What of a host outlives a boot: its state, to be kept and compared. Pure.

What comes and goes (boot id, interface numbers, load, free space, who is logged in) is none of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec

from clusterctl.facts.gpu import Gpu, NvidiaSmi
from clusterctl.facts.model import Facts, Interface
from clusterctl.facts.rdma import RdmaPort
from clusterctl.facts.sections import Section, unread

Value = str | None
Group = dict[str, Value] | None
Parts = dict[str, dict[str, Value]] | None

GIB = 1024**3
_CARDS = ("physical", "bond", "vlan", "wireless")


class HostState(msgspec.Struct, frozen=True, kw_only=True):
    """Texts for people. A value of None, and a group of None, is what nobody could tell.

    ``gpus`` are named by their UUIDs, ``disks`` by their paths; ``network`` is the one chosen for training.
    """

    machine: Group = None
    software: Group = None
    packages: Group = None
    gpus: Parts = None
    interfaces: Parts = None
    network: Group = None
    rdma: Parts = None
    disks: Parts = None
    limits: Group = None
    settings: Group = None


class Baseline(msgspec.Struct, frozen=True, kw_only=True):
    """The hosts of a cluster as they were when somebody called them good. ``clusterctl`` is the version."""

    schema: str
    clusterctl: str
    taken: str
    hosts: dict[str, HostState]


class Place(Protocol):
    """Where a host stands in the network that was chosen."""

    @property
    def ifname(self) -> str: ...
    @property
    def address(self) -> str: ...


class Chosen(Protocol):
    """The network that was chosen, ``proven`` by traffic or by subnet only."""

    @property
    def subnet(self) -> str: ...
    @property
    def proven(self) -> bool: ...
    def of(self, host: str) -> Place | None: ...


def state_of(facts: Facts, slots: int, network: Chosen) -> HostState:
    """``slots`` are those of the hostfile."""
    place = network.of(facts.host)
    missing = unread(facts)

    def told(section: Section, values: dict[str, Value]) -> dict[str, Value]:
        return dict.fromkeys(values) if section in missing else values

    python, torch, smi = facts.python, facts.torch, facts.nvidia
    has_python = "python" not in missing and not python.error
    return HostState(
        machine={
            "slots": str(slots),
            **told("system", _machine(facts)),
        },
        software={
            **told("gpus", _driver(smi)),
            **dict.fromkeys(("python", "interpreter", "CUDA of torch", "NCCL loaded", "NCCL plugin")),
            **(
                {
                    "python": python.version or None,
                    "interpreter": python.executable or None,
                    "CUDA of torch": python.torch_cuda or "none",
                    "NCCL loaded": torch.nccl_version if torch and torch.ok and torch.nccl_version else None,
                    "NCCL plugin": python.net_plugin or "none",
                }
                if has_python
                else {}
            ),
        },
        packages=dict(sorted(python.packages.items())) if has_python else None,
        gpus=_gpus(smi) if "gpus" not in missing and _is_told(smi) else None,
        interfaces=_interfaces(facts, place) if "interfaces" not in missing and facts.interfaces else None,
        network=_place(place, network) if place else None,
        rdma={f"{port.device}:{port.port}": _rdma(port) for port in facts.rdma}
        if "rdma" not in missing
        else None,
        disks=_disks(facts) if "disks" not in missing else None,
        limits={
            **told("system", _limits(facts)),
            **told(
                "routes",
                {"ports": "-".join(map(str, facts.port_range)), "firewall": facts.firewall or "none"},
            ),
        },
        settings=_settings(facts) if "settings" not in missing else None,
    )


def _place(place: Place, network: Chosen) -> dict[str, Value]:
    return {
        "interface": place.ifname,
        "address": place.address,
        "subnet": network.subnet,
        "traffic": "proven" if network.proven else "not proven",
    }


def _machine(facts: Facts) -> dict[str, Value]:
    return {
        "hostname": facts.hostname or None,
        "user": facts.user or None,
        "architecture": facts.architecture or None,
        "system": facts.os_release or None,
        "kernel": facts.kernel or None,
        "cores": str(facts.cpus) if facts.cpus else None,
        "memory": _size(facts.memory_total) if facts.memory_total else None,
    }


def _size(count: float) -> str:
    return f"{count / GIB:.1f} GiB"


def _is_told(smi: NvidiaSmi) -> bool:
    """A driver that gives no answer does not say that the cards are gone."""
    return smi.exit_code == 0 if smi.present else smi.devices == 0


def _driver(smi: NvidiaSmi) -> dict[str, Value]:
    driver = smi.kernel_driver or next((card.driver for card in smi.gpus if card.driver), "")
    known = _is_told(smi)
    return {
        "driver": driver or ("none" if known else None),
        "CUDA of the driver": smi.cuda or ("none" if known and not smi.gpus else None),
    }


def _gpus(smi: NvidiaSmi) -> dict[str, dict[str, Value]]:
    return {card.uuid or f"GPU {card.index}": _gpu(card) for card in smi.gpus}


def _gpu(card: Gpu) -> dict[str, Value]:
    return {
        "model": card.name,
        "memory": _size(card.memory_total),
        "power limit": f"{card.power_limit:g} W" if card.power_limit else None,
        "compute mode": card.compute_mode.strip() or None,
        "MIG": card.mig_mode.strip() or None,
        "persistence": card.persistence or None,
        "PCIe lanes": str(card.pcie_width) if card.pcie_width else None,
        "NVLinks": str(card.nvlinks[0]) if card.nvlinks else None,
    }


def _interfaces(facts: Facts, place: Place | None) -> dict[str, dict[str, Value]]:
    """Cards; what containers and tunnels bring and take away is not told, unless training goes over it."""
    return {
        link.name: _interface(link)
        for link in facts.interfaces
        if link.kind in _CARDS
        or (place and link.name == place.ifname)
        or (link.kind == "veth" and not link.bridge_of and link.addresses)
    }


def _interface(link: Interface) -> dict[str, Value]:
    four = sorted(f"{each.address}/{each.prefix}" for each in link.addresses if each.family == "inet")
    return {
        "kind": link.kind,
        "link": "up" if link.up and link.carrier is not False else "down",
        "speed": _speed(link.speed),
        "MTU": str(link.mtu) if link.mtu else None,
        "addresses": ", ".join(four) or "none",
        "rp_filter": None if link.rp_filter is None else str(link.rp_filter),
    }


def _speed(speed: int | None) -> Value:
    if not speed:
        return None
    return f"{speed} Mb/s" if speed < 1000 else f"{speed / 1000:g} Gb/s"


def _rdma(port: RdmaPort) -> dict[str, Value]:
    return {
        "kind": port.link_layer or None,
        "state": port.state.partition(": ")[2] or port.state or None,
        "rate": f"{port.rate:g} Gb/s" if port.rate else None,
        "firmware": port.firmware or None,
        "MTU": str(port.netdev_mtu) if port.netdev_mtu else None,
    }


def _disks(facts: Facts) -> dict[str, dict[str, Value]]:
    return {
        entry.path: {
            "size": _size(entry.total),
            "mounted": ", ".join(
                ["read-only" if entry.read_only else "writable", *["noexec"] * entry.noexec]
            ),
        }
        for entry in facts.filesystems
        if entry.exists and entry.role not in ("run", "workdir", "cache")
    }


def _limits(facts: Facts) -> dict[str, Value]:
    own, group = facts.limits, facts.cgroup
    told: Mapping[str, int | float | None] = {
        "locked memory": own.memlock,
        "open files": own.nofile,
        "processes": own.nproc,
        "stack": own.stack,
        "size of a file": own.file_size,
        "CPU time": own.cpu_time,
        "address space": own.address_space,
        "memory of the session": group.memory,
        "processes of the session": group.pids,
        "cores of the session": group.cpus,
    }
    return {
        **{
            name: "unlimited" if limit is None else f"{limit:g}" if isinstance(limit, float) else str(limit)
            for name, limit in told.items()
        },
        "neighbour table": str(facts.neighbours) if facts.neighbours else None,
    }


def _settings(facts: Facts) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for variable in facts.variables:
        found.setdefault(variable.name, variable.value)
    if facts.accelerate_config:
        found["accelerate's default_config.yaml"] = facts.accelerate_config
    return found
