"""All rows that need real hosts, as the clusters in which they are tried."""

from __future__ import annotations

from tests.faults import hosts_combined, hosts_network, hosts_odd, hosts_single
from tests.faults.clusters import ClusterRow, together

CPU_WHEEL = ("--skip", "sw.cpu-build=the torch of this machine is for CPUs")
"""With cards on its hosts, doctor rightly says so."""

ALONE: tuple[ClusterRow, ...] = (
    together("sessions", hosts_single.LOGIN, "--quick"),
    together("system", hosts_single.SYSTEM, "--quick"),
    together("software", hosts_single.SOFTWARE, "--quick"),
    together("interfaces", hosts_single.NETWORK, "--quick"),
    together("cards", hosts_single.CARDS, "--quick", *CPU_WHEEL, gpus=2),
    together("imports of torch", hosts_single.IMPORTS),
    *hosts_network.TRAFFIC,
)
COMBINED: tuple[ClusterRow, ...] = (
    together("two on one host", hosts_combined.ON_ONE_HOST, "--quick"),
    *hosts_combined.ON_SEVERAL,
)
ODD: tuple[ClusterRow, ...] = (
    together("odd sessions", hosts_odd.SESSIONS, "--quick"),
    together("odd machines", hosts_odd.MACHINES, "--quick"),
    together("odd cards", hosts_odd.CARDS, "--quick", *CPU_WHEEL, gpus=2),
    *hosts_odd.CLUSTERS,
)
EVERY = (*ALONE, *COMBINED, *ODD)


def group(row: ClusterRow) -> str:
    """The line of the table in which its outcomes are counted."""
    if row.rows:
        return row.name
    if row in COMBINED:
        return "several on one cluster"
    return "odd clusters" if row in ODD else "traffic and names"
