"""What kernels counted of flows between hosts -> which side of which host is slow or loses packets."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations

import pytest

from clusterctl.facts.model import Dial, Flow
from clusterctl.network import flows
from clusterctl.network.flows import Side

MEGABYTE = 1 << 20
Measure = Callable[[str, str], Flow]


def flow(
    *, busy: float = 0.008, again: int = 0, steady: bool = False, shortest: float = 0.0001, alone: bool = True
) -> Flow:
    """A megabyte, or a hundred small packets."""
    return Flow(
        acknowledged=100 if steady else MEGABYTE,
        busy=busy,
        packets=100 if steady else 725,
        again=again,
        round_trip=shortest,
        shortest=shortest,
        steady=steady,
        alone=alone,
    )


def dials(hosts: str, measure: Measure) -> list[Dial]:
    return [
        Dial(
            source=source, target=target, address=f"10.0.0.{ord(target)}", port=40000, kind="ephemeral",
            result="ok", bulk=True, flow=measure(source, target),
        )
        for source, target in permutations(hosts, 2)
    ]  # fmt: skip


def named(sides: list[Side]) -> set[tuple[str, str]]:
    return {(side.host, side.direction) for side in sides}


def slow(found: list[Dial]) -> set[tuple[str, str]]:
    return named([side for side, _ in flows.slow(found)])


@pytest.mark.parametrize("hosts", ["abc", "abcdefgh"])
@pytest.mark.parametrize(("direction", "end"), [("out", 0), ("in", 1)])
def test_a_slow_direction_of_a_host_is_found(hosts: str, direction: str, end: int) -> None:
    found = dials(hosts, lambda *edge: flow(busy=1.6 if edge[end] == "b" else 0.008))
    assert slow(found) == {("b", direction)}
    ((side, usual),) = flows.slow(found)
    assert side.rate == pytest.approx(8 * MEGABYTE / 1.6)
    assert usual == pytest.approx(8 * MEGABYTE / 0.008)


def test_a_host_that_is_slow_both_ways_is_found_alone() -> None:
    found = dials("abcd", lambda source, target: flow(busy=1.6 if "b" in (source, target) else 0.02))
    assert slow(found) == {("b", "in"), ("b", "out")}


@pytest.mark.parametrize(
    "measure",
    [
        lambda source, target: flow(busy=1.6),  # all alike: the switch, or simply their speed
        lambda source, target: flow(busy=0.2 if source == "b" else 0.008),  # too short to be sure
        lambda source, target: flow(busy=1.6 if (source, target) == ("b", "c") else 0.008),  # one path
        lambda source, target: flow(busy=1.6 if source == "b" else 0.3),  # not far below the others
        lambda source, target: flow(busy=1.6, shortest=0.1) if source == "b" else flow(),  # far away
    ],
)
def test_what_may_have_another_reason_is_not_slow(measure: Measure) -> None:
    assert slow(dials("abcd", measure)) == set()


def test_one_quick_flow_is_proof_that_the_link_can_do_it() -> None:
    found = dials("abc", lambda source, target: flow(busy=1.6 if source == "b" else 0.008))
    assert slow(found) == {("b", "out")}
    again = dials("abc", lambda source, target: flow(busy=0.1))
    assert slow([*found, *(dial for dial in again if dial.source == "b")]) == set()


def test_of_two_hosts_the_way_back_is_what_it_is_held_against() -> None:
    found = dials("ab", lambda source, target: flow(busy=1.6 if source == "a" else 0.008))
    assert slow(found) == {("a", "out"), ("b", "in")}


def test_what_steady_packets_lost_is_told_once() -> None:
    found = dials("abcd", lambda source, target: flow(steady=True, again=6 if target == "b" else 0))
    (side,) = flows.lossy(found)
    assert (side.host, side.direction) == ("b", "in")
    assert side.loss == pytest.approx(0.06)


def test_two_hosts_that_lose_packets_are_both_told() -> None:
    found = dials(
        "abcd", lambda source, target: flow(steady=True, again=6 * (target == "b") + 4 * (source == "c"))
    )
    assert named(flows.lossy(found)) == {("b", "in"), ("c", "out")}


def test_a_megabyte_in_haste_is_no_proof_of_loss() -> None:
    found = dials("abc", lambda source, target: flow(again=60 if target == "b" else 0))
    assert flows.lossy(found) == []
    suspects = flows.losing(found)
    assert named(suspects) == {("b", "in")}
    assert flows.edges_to_repeat(found, suspects) == (("a", "b"), ("c", "b"))


def test_a_packet_now_and_then_is_no_loss() -> None:
    found = dials("abc", lambda source, target: flow(steady=True, again=1 if target == "b" else 0))
    assert flows.lossy(found) == []


def test_a_host_that_loses_packets_is_slow_by_that() -> None:
    found = dials("abc", lambda source, target: flow(busy=1.6 if target == "b" else 0.008))
    steady = dials("abc", lambda source, target: flow(steady=True, again=9 if target == "b" else 0))
    assert slow([*found, *steady]) == set()


def test_measured_again_are_paths_with_hosts_beyond_suspicion() -> None:
    found = dials("abcde", lambda source, target: flow(again=5 if target in "ab" else 0))
    edges = flows.edges_to_repeat(found, flows.losing(found))
    assert len(edges) == 4
    assert all(source in "cde" and target in "ab" for source, target in edges)
