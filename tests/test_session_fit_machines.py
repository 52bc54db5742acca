"""Which machines `fit` judges by: the smallest GPU, the least memory, the slowest link of the hosts asked."""

from __future__ import annotations

import msgspec
import pytest

from clusterctl.errors import NoAnswerError, UsageError
from clusterctl.facts.e2e import Bandwidth, Proof, Transfer
from clusterctl.session.examine import Examination, judged
from clusterctl.session.fit import machines_of
from clusterctl.transport.protocol import Failure
from tests.fact_sets import Alteration, Case, card, link, material, on

GB = 10**9


def seen(case: Case, *transfers: Transfer) -> Examination:
    made = material(case)
    if transfers:
        proof = Proof(bandwidth=Bandwidth(transfers=transfers))
        made = msgspec.structs.replace(made, answers=msgspec.structs.replace(made.answers, proof=proof))
    return judged(made)


def test_the_smallest_gpu_bounds_all_and_what_lies_idle_is_counted() -> None:
    uneven = (
        card("node1 node2 node3", (0, 1), memory_total=80 * GB),
        card("node2", (1,), memory_total=24 * GB),
        on("*", memory_available=200 * GB),
        on("node3", memory_available=100 * GB),
    )
    found = machines_of(seen(Case(name="uneven", gpus=2, alter=uneven)))
    assert found.world.ranks == (2, 2, 2)
    assert (found.world.device, found.world.host) == (24 * GB, 100 * GB)
    assert found.notes[:3] == (
        "GPUs: 24.0 GB on node2, the smallest, bound all",
        "idle: 280.0 GB of larger GPUs can hold nothing, for all ranks hold as much",
        "host memory: 100.0 GB are free on node3, the least",
    )


def test_only_the_slots_that_are_used_count() -> None:
    small = card("*", (3,), memory_total=8 * GB)
    found = machines_of(seen(Case(name="small", gpus=4, slots=2, alter=(small,))))
    assert found.world.ranks == (2, 2, 2) and found.world.device == 80 * 1024**3
    assert not any("idle" in note for note in found.notes)


def test_a_limit_of_a_control_group_is_less_than_the_memory() -> None:
    limited = (on("*", memory_available=200 * GB), on("node2", cgroup={"memory": 32 * GB}))
    assert machines_of(seen(Case(name="limited", alter=limited))).world.host == 32 * GB


def test_the_slowest_interface_says_it_where_nothing_was_measured() -> None:
    found = machines_of(seen(Case(name="slow", alter=(link("node2", speed=1000),))))
    assert found.world.bandwidth == 0.125 * GB
    assert found.notes[-1] == "network: 0.12 GB/s as node2's interface says; --measure tries it"
    unknown = machines_of(seen(Case(name="mute", alter=(link("node3", speed=None),))))
    assert unknown.world.bandwidth is None and "--bandwidth, or --measure" in unknown.notes[-1]


def test_what_was_measured_stands_above_what_interfaces_say_and_what_is_given_above_both() -> None:
    carried = [
        Transfer(source=one, target=other, rate=8e9, busy=1.0, idle=1.0)
        for one, other in (("node1", "node2"), ("node2", "node1"), ("node1", "node3"))
    ]
    slow = Transfer(source="node3", target="node1", rate=4e9, busy=1.0, idle=1.0)
    broken = Transfer(source="node2", target="node3", error="it timed out")
    examined = seen(Case(name="measured"), *carried, slow, broken)
    found = machines_of(examined)
    assert found.world.bandwidth == 0.5 * GB
    assert found.notes[-1] == "network: 0.50 GB/s measured, node3 carries the least"
    assert machines_of(examined, bandwidth=2e9).world.bandwidth == 2e9


def test_one_host_needs_no_network() -> None:
    assert machines_of(seen(Case(name="one", hosts=1, gpus=2))).world.bandwidth is None


def test_hosts_that_cannot_be_judged_are_named() -> None:
    silent = Failure(host="node2", stage="connect", message="timed out", hint="")
    with pytest.raises(NoAnswerError) as told:
        machines_of(seen(Case(name="silent", failures=(silent,))))
    assert "node2 gave no answer" in told.value.message and "--exclude 'node2'" in (told.value.hint or "")
    none = on("node3", nvidia={"gpus": (), "devices": 0})
    with pytest.raises(UsageError, match="node3 tells of fewer GPUs"):
        machines_of(seen(Case(name="fewer", gpus=2, alter=(none,))))
    with pytest.raises(UsageError, match=r"node\[1-3\] tells of fewer GPUs"):
        machines_of(seen(Case(name="few", gpus=2, slots=4)))


@pytest.mark.parametrize(
    "alteration",
    [
        on("node2", nvidia={"gpus": ()}),
        on("node2", nvidia={"gpus": (), "devices": 0, "amd": 8}),
        card("node2", (1,), memory_total=0),
    ],
    ids=["nvidia-smi fails", "AMD", "of the host's memory"],
)
def test_gpus_that_tell_no_memory_are_not_taken_for_none(alteration: Alteration) -> None:
    with pytest.raises(UsageError, match="node2: how much memory its GPUs have is not known"):
        machines_of(seen(Case(name="mute", gpus=2, alter=(alteration,))))
