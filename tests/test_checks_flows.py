"""Flows between hosts -> what is said about them."""

from __future__ import annotations

import msgspec
import pytest

from clusterctl.checks.evaluate import Report
from clusterctl.facts.model import Dial, Facts, Flow, Reachability
from clusterctl.network.flows import in_words
from tests.builders import cluster, mesh
from tests.test_checks_reach import only, report
from tests.test_network_flows import Measure, flow


def measured(facts: dict[str, Facts], measure: Measure, *, steady: bool = False) -> Reachability:
    """All traffic passes, and its megabytes fare like this."""
    reached = mesh(facts)

    def with_flow(dial: Dial) -> Dial:
        if not dial.bulk:
            return dial
        return msgspec.structs.replace(dial, bulk=not steady, flow=measure(dial.source, dial.target))

    return msgspec.structs.replace(reached, dials=tuple(map(with_flow, reached.dials)))


def judged(count: int, measure: Measure, *, steady: bool = False) -> Report:
    facts = cluster(count)
    return report(facts, measured(facts, measure, steady=steady))


def test_a_slow_link_is_held_against_the_others() -> None:
    finding = only(
        "net.tcp-slow", judged(4, lambda source, target: flow(busy=1.6 if source == "node2" else 0.016))
    )
    assert (finding.severity, finding.hosts) == ("warn", ("node2",))
    assert finding.observed.startswith("what it sends gets through at 5.2 Mbit/s at best")
    assert finding.expected == "524 Mbit/s, as between the others"
    assert "tc -s qdisc show dev eth0" in finding.fix


def test_what_was_not_repeated_alone_is_not_told() -> None:
    found = judged(4, lambda source, target: flow(busy=1.6 if source == "node2" else 0.016, alone=False))
    assert found.verdict == "ready"
    assert "net.tcp-slow" not in {each.code for each in found.findings}


def test_of_two_hosts_both_are_named() -> None:
    finding = only(
        "net.tcp-slow", judged(2, lambda source, target: flow(busy=1.6 if source == "node2" else 0.016))
    )
    assert finding.hosts == ("node1", "node2")
    assert finding.observed == (
        "what node2 sends to node1 gets through at 5.2 Mbit/s at best, with every peer and when nothing else "
        "is sent: either of the two hosts may be why"
    )


def test_lost_packets_are_a_share_of_what_was_sent() -> None:
    found = judged(
        4, lambda source, target: flow(steady=True, again=7 if target == "node3" else 0), steady=True
    )
    finding = only("net.loss", found)
    assert finding.hosts == ("node3",)
    assert finding.observed.startswith("about 7% of what is sent to it is lost on the way")


def test_lost_packets_between_two_hosts_name_both() -> None:
    found = judged(
        2, lambda source, target: flow(steady=True, again=7 if target == "node1" else 0), steady=True
    )
    finding = only("net.loss", found)
    assert finding.hosts == ("node1", "node2")
    assert "of what node2 sends to node1" in finding.observed


@pytest.mark.parametrize(
    ("rate", "words"),
    [
        (4.8e6, "4.8 Mbit/s"),
        (48e6, "48 Mbit/s"),
        (940e6, "940 Mbit/s"),
        (1.3e9, "1.3 Gbit/s"),
        (2.1e9, "2 Gbit/s or more"),
    ],
)
def test_a_rate_is_said_as_people_do(rate: float, words: str) -> None:
    assert in_words(rate) == words


def test_a_host_that_is_far_from_all_others() -> None:
    def far(source: str, target: str) -> Flow:
        return msgspec.structs.replace(flow(), shortest=0.02 if "node2" in (source, target) else 0.0002)

    finding = only("net.rtt", judged(4, far))
    assert (finding.severity, finding.hosts) == ("warn", ("node2",))
    assert finding.observed == "a packet to the nearest host and back takes 20.0 ms"
    assert finding.expected == "0.2 ms, as between the others"
    assert finding.fix.startswith("tracepath -n 10.0.0.")
    assert "net.rtt" not in {each.code for each in judged(2, far).findings}


def test_neither_of_two_sites_is_far_and_a_busy_machine_is_not() -> None:
    def two_sites(source: str, target: str) -> Flow:
        apart = (source in ("node1", "node2")) != (target in ("node1", "node2"))
        return msgspec.structs.replace(flow(), shortest=0.02 if apart else 0.0002)

    def busy(source: str, target: str) -> Flow:
        slow = "node2" in (source, target) and "node3" not in (source, target)
        return msgspec.structs.replace(flow(), shortest=0.05 if slow else 0.0002)

    for measure in (two_sites, busy):
        assert "net.rtt" not in {each.code for each in judged(4, measure).findings}
