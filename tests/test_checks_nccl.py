"""What libnccl said on each host -> what is said about it."""

from __future__ import annotations

import msgspec
import pytest

from clusterctl.checks.evaluate import Report, evaluate
from clusterctl.checks.finding import CheckResult, Finding
from clusterctl.facts.model import Dial, Facts, NcclPick, Reachability
from clusterctl.network.choose import choose
from tests.builders import altered, cluster, everywhere, inventory, mesh, nic

CODE = "net.nccl-pick"


def picked(count: int = 3) -> dict[str, Facts]:
    """Hosts whose libnccl takes the very address that was chosen."""
    return {
        host: msgspec.structs.replace(
            facts, nccl=NcclPick(address=facts.ssh_address, port=40000, version="2.27.5")
        )
        for host, facts in cluster(count).items()
    }


def visited(facts: dict[str, Facts], result: dict[tuple[str, str], str] | None = None) -> Reachability:
    """All traffic passes, and every peer dials the port of libnccl with this ``result``."""
    reached = mesh(facts)
    dials = tuple(
        Dial(
            source=source,
            target=target,
            address=pick.address,
            port=pick.port,
            kind="nccl",
            result=(result or {}).get((source, target), "ok"),
        )
        for source in facts
        for target, told in facts.items()
        if source != target and (pick := told.nccl) and pick.address
    )
    return msgspec.structs.replace(reached, dials=reached.dials + dials)


def judged(facts: dict[str, Facts], reached: Reachability | None = None, **settings: str) -> Report:
    reached = reached or visited(facts)
    user = everywhere(facts, **settings)
    network = choose(inventory(facts), facts, reached, settings=user)
    return evaluate(inventory(facts), facts, (), reached, network, settings=user)


def found(report: Report) -> list[Finding]:
    return [each for each in report.findings if each.code == CODE]


def results(report: Report) -> dict[str, CheckResult]:
    return {host: each for each in report.checks if each.code == CODE for host in each.hosts}


def test_the_chosen_address_passes() -> None:
    report = judged(picked())
    assert not found(report)
    assert {each.status for each in results(report).values()} == {"pass"}


def test_another_address_is_named_with_its_interface() -> None:
    facts = picked()
    bridge = nic("br-ab12", "172.18.0.1", kind="bridge")
    facts = altered(facts, "node2", interfaces=(*facts["node2"].interfaces, bridge))
    facts = altered(facts, "node2", nccl=NcclPick(address="172.18.0.1", port=40000, version="2.27.5"))
    (finding,) = found(judged(facts, visited(picked())))
    assert (finding.severity, finding.hosts) == ("fail", ("node2",))
    assert finding.observed.startswith(
        "NCCL 2.27.5 would take br-ab12, 172.18.0.1, with NCCL_SOCKET_IFNAME==eth0"
    )
    assert finding.expected == "eth0, 10.0.0.3: the network chosen for the run"
    assert "not on the network chosen" in finding.symptom


def test_the_users_own_setting_is_named() -> None:
    facts = altered(picked(), "node2", nccl=NcclPick(address="10.0.9.9", port=1))
    (finding,) = found(judged(facts, NCCL_SOCKET_IFNAME="eth"))
    assert "NCCL_SOCKET_IFNAME=eth (--env)" in finding.observed
    assert finding.fix == "unset NCCL_SOCKET_IFNAME: clusterctl sets it for each host"


def test_no_interface_is_a_failure_in_its_own_words() -> None:
    facts = altered(picked(), "node3", nccl=NcclPick(refused="invalid usage: no socket interface found"))
    (finding,) = found(judged(facts))
    assert finding.hosts == ("node3",)
    assert "finds no interface that it may use" in finding.observed
    assert "no socket interface found" in finding.observed


@pytest.mark.parametrize(
    ("pick", "status", "verdict"),
    [
        (NcclPick(unknown="asking libnccl was ended by signal 11"), "unknown", "unknown"),
        (NcclPick(missing="no libnccl"), "skip", "ready"),
    ],
)
def test_what_cannot_be_known_never_fails(pick: NcclPick, status: str, verdict: str) -> None:
    report = judged(altered(picked(), "node2", nccl=pick))
    assert report.verdict == verdict
    told = results(report)
    assert told["node2"].status == status
    assert told["node1"].status == "pass"


def test_without_any_libnccl_it_is_skipped_with_the_reason() -> None:
    facts = {
        host: msgspec.structs.replace(told, nccl=NcclPick(missing="no libnccl here"))
        for host, told in cluster(2).items()
    }
    report = judged(facts)
    assert {(each.status, each.reason) for each in results(report).values()} == {("skip", "no libnccl here")}


def test_peers_that_do_not_reach_its_port_are_told() -> None:
    facts = picked()
    blocked = visited(facts, {("node1", "node2"): "timeout", ("node3", "node2"): "timeout"})
    (finding,) = found(judged(facts, blocked))
    assert finding.hosts == ("node2",)
    assert finding.observed == (
        "NCCL listens on 10.0.0.3 port 40000, and connections to it from node[1,3] are dropped (timeout)"
    )
    assert "32768:60999" in finding.fix


def test_a_host_that_nobody_reaches_at_all_is_anothers_finding() -> None:
    facts = picked()
    reached = visited(facts)
    dials = tuple(
        msgspec.structs.replace(dial, result="timeout") if dial.target == "node2" else dial
        for dial in reached.dials
    )
    report = judged(facts, msgspec.structs.replace(reached, dials=dials))
    assert not found(report)
    assert results(report)["node2"].status == "unknown"


def test_an_undecided_dial_is_unknown() -> None:
    facts = picked()
    report = judged(facts, visited(facts, {("node1", "node2"): "unsettled"}))
    assert {each.severity for each in found(report)} == {"unknown"}


def test_what_it_would_take_without_us_is_a_note() -> None:
    facts = picked()
    bridge = nic("br-ab12", "172.18.0.1", kind="bridge", index=1)
    facts = altered(facts, "node2", interfaces=(*facts["node2"].interfaces, bridge))
    (note,) = found(judged(facts, visited(picked())))
    assert (note.severity, note.hosts) == ("info", ("node2",))
    assert note.observed == "without clusterctl's settings NCCL would take br-ab12, 172.18.0.1"


def test_where_it_was_not_asked_its_rule_warns() -> None:
    """The user's prefix fits a second card, too, and NCCL takes the first."""
    facts = {
        host: msgspec.structs.replace(
            told, interfaces=(*told.interfaces, nic("eth10", f"10.7.0.{rank}", index=1, speed=1_000))
        )
        for rank, (host, told) in enumerate(cluster(3).items(), start=1)
    }
    (finding,) = found(judged(facts, mesh(facts), NCCL_SOCKET_IFNAME="eth"))
    assert (finding.severity, finding.hosts) == ("warn", ("node1", "node2", "node3"))
    assert finding.observed.startswith(
        "by its rule NCCL would take eth10, 10.7.0.1, with NCCL_SOCKET_IFNAME=eth"
    )
    assert not found(judged(facts, mesh(facts)))
