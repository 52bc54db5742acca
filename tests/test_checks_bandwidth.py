"""Whose bandwidth is too little: where the network was the limit, against what the others carry."""

from __future__ import annotations

from itertools import permutations

import pytest

from clusterctl.checks.evaluate import Report, evaluate
from clusterctl.facts.e2e import Bandwidth, Proof, Transfer
from clusterctl.network.bandwidth import capacities, limit
from clusterctl.network.tournament import ALL_PAIRS_UP_TO, SAMPLED_ROUNDS, rounds, second_pass
from tests.builders import cluster, inventory

HOSTS = ("node1", "node2", "node3", "node4")


def transfer(source: str, target: str, gigabits: float, **shares: float) -> Transfer:
    told = {"busy": 1.0, "receiver": 0.0, "buffer": 0.0, "cpu": 0.5, "idle": 0.5, **shares}
    return Transfer(source=source, target=target, rate=gigabits * 1e9, **told)  # type: ignore[arg-type]


def carried(slow: str = "", gigabits: float = 9.4, way: str = "both", **shares: float) -> list[Transfer]:
    found = []
    for source, target in permutations(HOSTS, 2):
        sick = (source == slow and way != "in") or (target == slow and way != "out")
        found.append(transfer(source, target, gigabits if sick else 9.4, **(shares if sick else {})))
    return found


def report(transfers: list[Transfer], **rest: object) -> Report:
    bandwidth = Bandwidth(transfers=tuple(transfers), **rest)  # type: ignore[arg-type]
    return evaluate(inventory(HOSTS), cluster(4), proof=Proof(bandwidth=bandwidth))


def said(found: Report) -> dict[str, tuple[str, ...]]:
    return {each.severity: each.hosts for each in found.findings if each.code == "e2e.tcp-bw"}


def test_hosts_that_carry_alike_are_a_note() -> None:
    found = report(carried())
    assert said(found) == {"info": HOSTS}
    (note,) = [each.observed for each in found.findings if each.code == "e2e.tcp-bw"]
    assert note.startswith("TCP carries 9.4 Gbit/s at the median (the network was the limit): node1 9.4")


@pytest.mark.parametrize(("gigabits", "severity"), [(6.0, "warn"), (0.94, "fail"), (6.8, "")])
@pytest.mark.parametrize("way", ["out", "in", "both"])
def test_a_host_that_carries_less_is_named_alone(gigabits: float, severity: str, way: str) -> None:
    found = said(report(carried("node3", gigabits, way)))
    found.pop("info")
    assert found == ({severity: ("node3",)} if severity else {})


@pytest.mark.parametrize(
    "shares", [{"receiver": 0.5}, {"busy": 0.4}, {"buffer": 0.5}, {"cpu": 0.9, "idle": 0.02}]
)
def test_what_processes_or_cores_held_up_says_nothing_of_the_network(shares: dict[str, float]) -> None:
    assert set(said(report(carried("node3", 0.94, "both", **shares)))) == {"info"}


def test_little_that_cost_no_core_is_the_network_however_busy_the_machine() -> None:
    assert limit(transfer("a", "b", 0.2, cpu=0.02, idle=0.0)) == "network"


def test_one_sick_pair_is_no_sick_host() -> None:
    pairs = [
        transfer(each.source, each.target, 0.5) if {each.source, each.target} == {"node1", "node2"} else each
        for each in carried()
    ]
    assert set(said(report(pairs))) == {"info"}


def test_two_hosts_have_nothing_to_be_held_against() -> None:
    found = evaluate(
        inventory(HOSTS[:2]),
        cluster(2),
        proof=Proof(
            bandwidth=Bandwidth(transfers=(transfer("node1", "node2", 1.0), transfer("node2", "node1", 9.0)))
        ),
    )
    assert set(said(found)) == {"info"}


def test_a_host_that_took_no_part_is_unknown() -> None:
    assert said(report(carried(), errors={"node2": "it did not open a port"}))["unknown"] == ("node2",)


def test_a_transfer_that_failed_is_no_rate() -> None:
    assert capacities([Transfer(source="a", target="b", error="refused")]) == ()


@pytest.mark.parametrize("count", [2, 3, 8, ALL_PAIRS_UP_TO, 10, 65, 128])
def test_nobody_is_in_two_pairs_of_a_round(count: int) -> None:
    hosts = [f"n{number}" for number in range(count)]
    made = rounds(hosts)
    for pairs in made:
        ends = [host for pair in pairs for host in pair]
        assert len(ends) == len(set(ends)) >= count - 1
    every = {frozenset(pair) for pairs in made for pair in pairs}
    if count <= ALL_PAIRS_UP_TO:
        assert len(every) == count * (count - 1) // 2
    else:
        assert len(made) == SAMPLED_ROUNDS
        assert len(every) == sum(len(pairs) for pairs in made)


def test_each_suspect_is_tried_with_one_that_passed() -> None:
    assert second_pass(["a", "b", "c"], ["x", "y"]) == ((("a", "x"), ("b", "y")), (("c", "x"),))
    assert second_pass(["a", "b"], []) == ()
