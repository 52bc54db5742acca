"""Whom an all-reduce blames that does not end well, and whom it does not."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from clusterctl.checks.evaluate import Report, evaluate
from clusterctl.facts.e2e import AllReduce, Proof, Rank
from clusterctl.facts.model import Reachability
from clusterctl.network.choose import choose
from tests.builders import cluster, inventory

HOSTS = ("node1", "node2", "node3", "node4")
FACTS = cluster(4)
ADDRESS = {host: FACTS[host].interfaces[1].addresses[0].address for host in HOSTS}
DONE = {"stage": "reduced", "done": True}
WAITS: dict[str, Any] = {"stage": "store", "state": "waits"}


def report(trial: AllReduce | None, *, quick: bool = False) -> Report:
    hosts = inventory(HOSTS)
    network = choose(hosts, FACTS, Reachability())
    return evaluate(hosts, FACTS, network=network, proof=Proof(gloo=trial), quick=quick)


def trial(**ranks: dict[str, Any]) -> AllReduce:
    return AllReduce(
        ranks=tuple(
            msgspec.convert({"host": host, "rank": rank, **ranks.get(host, DONE)}, Rank)
            for rank, host in enumerate(HOSTS)
        ),
        master_addr=ADDRESS["node1"],
        master_port=29500,
        seconds=20.0,
    )


def said(found: Report) -> dict[str, tuple[tuple[str, ...], str]]:
    """Severity -> hosts and what was observed."""
    return {
        each.severity: (each.hosts, each.observed)
        for each in found.findings
        if each.code == "e2e.gloo" and each.severity != "info"
    }


def status(found: Report) -> dict[str, tuple[str, str]]:
    return {
        host: (each.status, each.reason)
        for each in found.checks
        if each.code == "e2e.gloo"
        for host in each.hosts
    }


def test_a_sum_of_all_ranks_passes() -> None:
    found = report(trial())
    assert said(found) == {}
    assert {each for each, _ in status(found).values()} == {"pass"}


def test_what_was_not_asked_is_skipped_with_its_reason() -> None:
    assert status(report(None, quick=True))["node2"] == ("skip", "not asked with --quick")
    assert status(report(AllReduce(skipped="no torch on any host")))["node2"][0] == "skip"


def test_what_another_check_tells_is_told_once() -> None:
    found = report(AllReduce(blocked="rank 0 has no port for its store: net.master-port"))
    assert said(found) == {}
    assert {each for each, _ in status(found).values()} == {"unknown"}


def test_a_host_without_its_torch_is_left_out_and_the_others_are_judged() -> None:
    made = trial()
    without = AllReduce(ranks=made.ranks[:2] + made.ranks[3:], left_out={"node3": "it has no torch"})
    found = status(report(without))
    assert found["node3"] == ("unknown", "it has no torch")
    assert found["node4"][0] == "pass"


def test_an_interface_that_is_not_there_is_named_in_plain_words() -> None:
    error = "RuntimeError: [enforce fail at device.cc:83] . Unable to find address for: eth9"
    found = report(trial(node1=WAITS, node2={"stage": "store", "error": error}, node3=WAITS, node4=WAITS))
    hosts, text = said(found)["fail"]
    assert hosts == ("node2",)
    assert text == "gloo finds no interface of the name eth9 (GLOO_SOCKET_IFNAME)"
    assert status(found)["node3"] == ("unknown", "its rank waited for node2")


def test_the_same_wrong_name_everywhere_is_one_finding() -> None:
    error = {"stage": "store", "error": "Unable to find address for: eth9"}
    found = report(trial(**dict.fromkeys(HOSTS, error)))
    assert [each.hosts for each in found.findings if each.code == "e2e.gloo"] == [HOSTS]


@pytest.mark.parametrize(
    ("ranks", "blamed"),
    [
        # One path: nobody knows which end.
        ({"node3": {**WAITS, "unanswered": [[ADDRESS["node4"], "connect"]]}}, ("node3", "node4")),
        # Everybody else reaches the store.
        (
            {"node3": {"stage": "begun", "state": "waits", "unanswered": [[ADDRESS["node1"], "connect"]]}},
            ("node3",),
        ),
        # Nobody gets in to node2.
        (
            {host: {**WAITS, "unanswered": [[ADDRESS["node2"], "connect"]]} for host in ("node3", "node4")},
            ("node2",),
        ),
        # node2 gets out to nobody.
        (
            {"node2": {**WAITS, "unanswered": [[ADDRESS["node3"], "data"], [ADDRESS["node4"], "data"]]}},
            ("node2",),
        ),
        # Nobody reaches the store.
        (
            {
                host: {"stage": "begun", "error": "OSError: [Errno 111] Connection refused"}
                for host in HOSTS[1:]
            },
            ("node1",),
        ),
    ],
)
def test_connections_without_an_answer_are_attributed(
    ranks: dict[str, dict[str, Any]], blamed: tuple[str, ...]
) -> None:
    found = report(trial(**{**dict.fromkeys(HOSTS, WAITS), **ranks}))
    hosts, _ = said(found)["fail"]
    assert hosts == blamed
    assert "unknown" not in said(found)


def test_who_says_that_a_peer_is_gone_does_not_hide_who_was_killed() -> None:
    gone = {"stage": "store", "error": "RuntimeError: Connection closed by peer [10.0.0.3]:40000"}
    found = report(trial(node1=gone, node2=gone, node3={"stage": "store", "ended": "killed by signal 9"}))
    hosts, text = said(found)["fail"]
    assert hosts == ("node3",)
    assert "killed by signal 9" in text
    assert status(found)["node1"] == ("unknown", "its rank waited for node3")


def test_connections_that_break_without_another_reason_fail() -> None:
    error = "RuntimeError: Connection reset by peer [10.0.0.3]:40000"
    hosts, _ = said(report(trial(node2={"stage": "group", "error": error})))["fail"]
    assert hosts == ("node2",)


@pytest.mark.parametrize("state", ["stopped", "silent"])
def test_who_stands_still_is_unknown_and_nobody_is_blamed(state: str) -> None:
    found = report(trial(node1=WAITS, node2={"stage": "begun", "state": state}, node3=WAITS, node4=WAITS))
    assert list(said(found)) == ["unknown"]
    assert said(found)["unknown"][0] == ("node2",)
    assert found.hosts["node2"] == "unknown"
    assert found.hosts["node3"] == "ready"


def test_who_is_late_is_unknown_and_the_others_waited() -> None:
    slow = {"stage": "begun", "state": "works"}
    found = report(trial(node1=WAITS, node2=slow, node3=WAITS, node4=WAITS))
    assert said(found)["unknown"][0] == ("node2",)
    assert "still at work" in said(found)["unknown"][1]
    assert status(found)["node3"][1] == "its rank waited for node2"


def test_an_end_that_never_comes_on_all_alike_is_unknown_on_all() -> None:
    last = {"stage": "group", "state": "waits"}
    found = report(trial(**dict.fromkeys(HOSTS, last)))
    assert said(found)["unknown"][0] == HOSTS


def test_a_sum_that_lacks_a_part_names_whose() -> None:
    wrong = {**DONE, "missing": [2]}
    hosts, _ = said(report(trial(**dict.fromkeys(HOSTS, wrong))))["fail"]
    assert hosts == ("node3",)
