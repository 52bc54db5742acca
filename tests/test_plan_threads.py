"""Threads of each rank where ranks share the cores of a machine."""

from __future__ import annotations

import msgspec

from clusterctl.facts.model import Facts, Variable
from clusterctl.plan.threads import settings
from tests.builders import cluster, inventory


def threads(facts: dict[str, Facts], slots: int) -> dict[str, str]:
    found = settings(inventory(facts, slots), facts)
    return {host: setting.value for host, settings in found.items() for setting in settings}


def machines(*boots: str, cpus: int = 16) -> dict[str, Facts]:
    return {
        host: msgspec.structs.replace(facts, boot_id=boot, cpus=cpus)
        for (host, facts), boot in zip(cluster(len(boots)).items(), boots, strict=True)
    }


def test_one_rank_on_a_machine_takes_what_it_finds() -> None:
    assert threads(machines("a", "b"), slots=1) == {}


def test_ranks_of_one_host_divide_its_cores() -> None:
    assert threads(machines("a", "b"), slots=4) == {"node1": "4", "node2": "4"}
    assert threads(machines("a", cpus=2), slots=4) == {"node1": "1"}


def test_hosts_on_one_kernel_divide_the_cores_of_their_machine() -> None:
    assert threads(machines("a", "a", "b"), slots=1) == {"node1": "8", "node2": "8"}
    assert threads(machines("", ""), slots=1) == {}


def test_a_host_keeps_what_its_own_sessions_say() -> None:
    facts = machines("a", "b")
    own = (Variable("OMP_NUM_THREADS", "3", "environment"),)
    facts["node1"] = msgspec.structs.replace(facts["node1"], variables=own)
    assert threads(facts, slots=2) == {"node2": "8"}


def test_the_origin_tells_the_reckoning() -> None:
    facts = machines("a", cpus=8)
    ((setting,),) = settings(inventory(facts, 3), facts).values()
    assert (setting.name, setting.value) == ("OMP_NUM_THREADS", "2")
    assert setting.origin == "clusterctl: 3 ranks share 8 core(s)"
