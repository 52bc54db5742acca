"""Whether NCCL may use RDMA: only when every host can, over one kind of link, at one rate."""

from __future__ import annotations

from collections.abc import Mapping

from clusterctl.facts.model import Facts, RdmaPort


def is_active(port: RdmaPort) -> bool:
    """The only ports NCCL uses: ``4: ACTIVE`` and ``5: LinkUp`` in sysfs."""
    return "ACTIVE" in port.state.upper() and "LINKUP" in port.physical_state.replace(" ", "").upper()


def usable_ports(facts: Facts) -> tuple[RdmaPort, ...]:
    """Active ports of one host; none where the verbs library is missing, as NCCL then silently uses TCP.

    An InfiniBand port needs a subnet manager's lid, a RoCE port a network device.
    """
    if facts.verbs_library is False:
        return ()
    return tuple(
        port
        for port in facts.rdma
        if is_active(port) and (port.lid if port.link_layer == "InfiniBand" else port.netdev)
    )


def select(facts: Mapping[str, Facts]) -> dict[str, tuple[RdmaPort, ...]]:
    """Host -> the ports to name in NCCL_IB_HCA; empty when RDMA is not for this cluster.

    The fastest (link layer, rate) that all hosts have, so that a storage or management HCA of another speed
    stays out.
    """
    ports = {host: usable_ports(of_host) for host, of_host in facts.items()}
    if not ports or not all(ports.values()):
        return {}
    kinds = [{(port.link_layer, port.rate or 0.0) for port in of_host} for of_host in ports.values()]
    common = set.intersection(*kinds)
    if not common:
        return {}
    layer, rate = max(common, key=lambda kind: (kind[1], kind[0]))
    return {
        host: tuple(port for port in of_host if port.link_layer == layer and (port.rate or 0.0) == rate)
        for host, of_host in ports.items()
    }
