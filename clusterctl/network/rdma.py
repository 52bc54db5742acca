"""Whether NCCL may use RDMA, on which ports, and what each host must be told for it.

Only when every host can, over one kind of link: where some cannot, NCCL hangs.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Network, ip_address, ip_interface

import msgspec
from packaging.version import Version

from clusterctl.facts.model import Facts
from clusterctl.facts.rdma import RdmaPort
from clusterctl.facts.versions import version

GIDS_CHOSEN = Version("2.21")
"""The NCCL that first chooses a GID by itself, and knows NCCL_IB_ADDR_RANGE."""
LINKS = ("InfiniBand", "Ethernet")
_NOT_FOR_NCCL = ("efa", "mana", "usnic")
"""Drivers whose adapters NCCL reaches through a plugin, or not at all."""


class HostRdma(msgspec.Struct, frozen=True, kw_only=True):
    """What NCCL is told on one host. ``gid_index`` is None and ``address_range`` empty where NCCL chooses
    well by itself."""

    ports: tuple[RdmaPort, ...]
    gid_index: int | None = None
    address_range: str = ""
    same_rail: bool = False
    """The rails are networks of their own: data must not cross from one to another."""


def is_active(port: RdmaPort) -> bool:
    """The only ports NCCL uses: ``4: ACTIVE`` and ``5: LinkUp`` in sysfs."""
    return "ACTIVE" in port.state.upper() and "LINKUP" in port.physical_state.replace(" ", "").upper()


def is_adapter(port: RdmaPort) -> bool:
    """Something that NCCL's own RDMA transport is made for: no iWARP, no RDMA in software, no cloud's own."""
    return (
        not port.software
        and port.node_type != "RNIC"
        and port.link_layer in LINKS
        and not port.driver.startswith(_NOT_FOR_NCCL)
    )


def adapters(facts: Facts) -> tuple[RdmaPort, ...]:
    return tuple(port for port in facts.rdma if is_adapter(port))


def usable_ports(facts: Facts) -> tuple[RdmaPort, ...]:
    """Active ports of one host; none where the verbs library is missing, as NCCL then silently uses TCP.

    An InfiniBand port needs a subnet manager's lid, a RoCE port a network device and a GID for its IPv4
    address. Azure's virtual Ethernet adapters look like RoCE and do not carry it.
    """
    if facts.verbs_library is False or facts.verbs_devices is False:
        return ()
    ethernet = not facts.vendor.startswith("Microsoft")
    return tuple(
        port
        for port in adapters(facts)
        if is_active(port)
        and (
            port.lid
            if port.link_layer == "InfiniBand"
            else ethernet and port.netdev and (port.gids or port.gids is None)
        )
    )


def select(facts: Mapping[str, Facts]) -> dict[str, tuple[RdmaPort, ...]]:
    """Host -> the ports to name in NCCL_IB_HCA; empty when RDMA is not for this cluster.

    The fastest (link layer, rate) that all hosts have, so that a storage or management HCA of another speed
    stays out. Where no rate is common, the fastest of each host over the link layer that all have: adapters
    of two generations work together.
    """
    ports = {host: _without_management(of_host, usable_ports(of_host)) for host, of_host in facts.items()}
    if not ports or not all(ports.values()):
        return {}
    kinds = [{(port.link_layer, port.rate or 0.0) for port in of_host} for of_host in ports.values()]
    common = set.intersection(*kinds)
    if common:
        layer, rate = max(common, key=lambda kind: (kind[1], kind[0]))
        return {host: _of_kind(of_host, layer, rate) for host, of_host in ports.items()}
    layers = set.intersection(*({layer for layer, _ in kind} for kind in kinds))
    if not layers:
        return {}
    layer = max(layers)  # InfiniBand before Ethernet
    return {
        host: _of_kind(of_host, layer, max(port.rate or 0.0 for port in of_host if port.link_layer == layer))
        for host, of_host in ports.items()
    }


def _of_kind(ports: tuple[RdmaPort, ...], layer: str, rate: float) -> tuple[RdmaPort, ...]:
    return tuple(port for port in ports if port.link_layer == layer and (port.rate or 0.0) == rate)


def _without_management(facts: Facts, ports: tuple[RdmaPort, ...]) -> tuple[RdmaPort, ...]:
    """Without the port that is the way to the world, where two or more others are left."""
    others = tuple(
        port for port in ports if port.link_layer != "Ethernet" or port.netdev != facts.default_device
    )
    return others if len(others) >= 2 else ports


def plan(facts: Mapping[str, Facts]) -> dict[str, HostRdma]:
    """Host -> how it uses RDMA; empty when RDMA is not for this cluster."""
    ports = select(facts)
    same_rail = rails_apart(facts, ports)
    address_range = "" if same_rail else _address_range(facts, ports)
    planned = {}
    for host, own in ports.items():
        nccl = nccl_version(facts[host])
        is_old = nccl is not None and nccl < GIDS_CHOSEN
        planned[host] = HostRdma(
            ports=own,
            gid_index=common_gid(own) if is_old else None,
            address_range="" if is_old else address_range,
            same_rail=same_rail,
        )
    return planned


def nccl_version(facts: Facts) -> Version | None:
    """The NCCL that torch loads there, or else brings."""
    told = facts.torch.nccl_version if facts.torch else ""
    brought = (
        facts.python.packages[name] for name in facts.python.packages if name.startswith("nvidia-nccl")
    )
    return version(told or next(brought, ""))


def common_gid(ports: tuple[RdmaPort, ...]) -> int | None:
    """The GID index that holds an IPv4 address over RoCE version 2 on all of these ports of one host."""
    if not ports or any(port.link_layer != "Ethernet" for port in ports):
        return None
    shared = set.intersection(*(set(port.gids or ()) for port in ports))
    return min(shared, default=None)


def network_of(facts: Facts, port: RdmaPort) -> str:
    """What a port reaches without a router: the InfiniBand subnet or the IPv4 one; "" where unknown."""
    if port.link_layer == "InfiniBand":
        return port.subnet_prefix
    networks = _networks(facts, port)
    return str(networks[0]) if networks else ""


def _networks(facts: Facts, port: RdmaPort) -> tuple[IPv4Network, ...]:
    link = next((each for each in facts.interfaces if each.name == port.netdev), None)
    own = link.addresses if link else ()
    found = (ip_interface(f"{each.address}/{each.prefix}").network for each in own if each.family == "inet")
    return tuple(network for network in found if isinstance(network, IPv4Network))


def rails_apart(facts: Mapping[str, Facts], ports: Mapping[str, tuple[RdmaPort, ...]]) -> bool:
    """Whether each host has a port of its own in each of the same two or more networks."""
    rails = {host: [network_of(facts[host], port) for port in own] for host, own in ports.items()}
    first = sorted(next(iter(rails.values()), []))
    return (
        len(first) >= 2
        and len(set(first)) == len(first)
        and all(first)
        and all(sorted(of_host) == first for of_host in rails.values())
    )


def _address_range(facts: Mapping[str, Facts], ports: Mapping[str, tuple[RdmaPort, ...]]) -> str:
    """The one network in which every port has exactly one GID, where some have several to choose from."""
    every = [(host, port) for host, own in ports.items() for port in own]
    if not any(len(port.gid_addresses) > 1 for _, port in every):
        return ""
    shared = set.intersection(*(set(_networks(facts[host], port)) for host, port in every))
    fitting = [
        network
        for network in shared
        if all(
            sum(ip_address(address) in network for address in port.gid_addresses) == 1 for _, port in every
        )
    ]
    return str(min(fitting)) if fitting else ""
