"""Dials between hosts -> what is said about them."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from clusterctl.checks.evaluate import Report, evaluate
from clusterctl.checks.finding import Finding
from clusterctl.facts.model import Dial, Facts, Reachability
from clusterctl.network.choose import choose
from tests.builders import LOOPBACK, cluster, everywhere, healthy, inventory, mesh, nic


def report(facts: dict[str, Facts], reachability: Reachability, **options: object) -> Report:
    hosts = inventory(facts)
    network = choose(hosts, facts, reachability, settings=options.get("settings", {}))  # type: ignore[arg-type]
    return evaluate(hosts, facts, (), reachability, network, **options)  # type: ignore[arg-type]


def spoiled(reachability: Reachability, where: Callable[[Dial], bool], **changes: object) -> Reachability:
    dials = tuple(
        msgspec.structs.replace(dial, **changes) if where(dial) else dial for dial in reachability.dials
    )
    return msgspec.structs.replace(reachability, dials=dials)


def only(code: str, found: Report) -> Finding:
    (finding,) = [each for each in found.findings if each.severity not in ("info", "unknown")]
    assert finding.code == code
    return finding


def is_ephemeral(dial: Dial) -> bool:
    return dial.kind != "master"


@pytest.mark.parametrize("count", [2, 4])
def test_open_paths_pass(count: int) -> None:
    facts = cluster(count)
    found = report(facts, mesh(facts))
    assert found.verdict == "ready"
    codes = ("net.backconnect", "net.pmtu", "net.nat", "net.egress", "net.master-port")
    assert {check.status for check in found.checks if check.code in codes} == {"pass"}


@pytest.mark.parametrize(
    ("result", "seconds", "word"),
    [
        ("timeout", 3.0, "dropped (timeout)"),
        ("refused", 0.0, "refused (TCP reset)"),
        ("unreachable", 0.001, "admin-prohibited"),
        ("unreachable", 3.1, "no such host on the wire"),
        ("no-route", 0.0, "without a route"),
        ("foreign", 0.0, "another service"),
    ],
)
def test_the_kind_of_block_is_told(result: str, seconds: float, word: str) -> None:
    facts = cluster(4)
    blocked = spoiled(
        mesh(facts),
        lambda dial: dial.target == "node3" and is_ephemeral(dial),
        result=result,
        seconds=seconds,
    )
    finding = only("net.backconnect", report(facts, blocked))
    assert finding.hosts == ("node3",)
    assert finding.observed.startswith("inbound TCP from all 3 peers")
    assert word in finding.observed


def test_the_firewall_rule_names_range_and_subnet() -> None:
    facts = cluster(3)
    facts["node2"] = msgspec.structs.replace(facts["node2"], port_range=(50000, 60000))
    blocked = spoiled(
        mesh(facts), lambda dial: dial.target == "node2" and is_ephemeral(dial), result="timeout"
    )
    found = report(facts, blocked)
    (finding,) = [each for each in found.findings if each.code == "net.backconnect"]
    assert "from 10.0.0.0/16 to any port 50000:60000" in finding.fix
    assert found.hosts["node1"] == "ready"
    assert found.hosts["node2"] == "not-ready"


def test_an_open_master_port_before_closed_others_is_recognised() -> None:
    facts = cluster(3)
    blocked = spoiled(
        mesh(facts), lambda dial: dial.target == "node1" and is_ephemeral(dial), result="timeout"
    )
    finding = only("net.backconnect", report(facts, blocked))
    assert "master port 29500 is open, the ports the OS chooses are not" in finding.observed


def test_a_one_way_block_names_its_direction() -> None:
    facts = cluster(2)
    blocked = spoiled(
        mesh(facts), lambda dial: dial.source == "node1" and is_ephemeral(dial), result="timeout"
    )
    finding = only("net.backconnect", report(facts, blocked))
    assert finding.hosts == ("node2",)
    assert finding.observed == "inbound TCP from node1 dropped (timeout)"


def test_a_firewall_that_opens_a_part_of_the_range() -> None:
    facts = cluster(3)
    blocked = spoiled(
        mesh(facts), lambda dial: dial.target == "node2" and dial.kind in ("low", "high"), result="timeout"
    )
    assert "on some of the ports tried" in only("net.backconnect", report(facts, blocked)).observed


def test_an_outbound_block_is_repaired_on_the_sender() -> None:
    facts = cluster(4)
    blocked = spoiled(
        mesh(facts), lambda dial: dial.source == "node4" and is_ephemeral(dial), result="timeout"
    )
    finding = only("net.backconnect", report(facts, blocked))
    assert finding.hosts == ("node4",)
    assert "outbound TCP to all 3 peers" in finding.observed
    assert "OUTPUT" in finding.fix


def test_nothing_passes_anywhere_is_one_finding() -> None:
    facts = cluster(8)
    found = report(facts, spoiled(mesh(facts), lambda _: True, result="timeout"))
    (finding,) = [each for each in found.findings if each.code == "net.backconnect"]
    assert len(finding.hosts) == 8


def test_large_payloads_that_stall_are_an_mtu_matter() -> None:
    facts = cluster(3)
    stalled = spoiled(mesh(facts), lambda dial: dial.target == "node2", result="stall")
    finding = only("net.pmtu", report(facts, stalled))
    assert finding.hosts == ("node2",)
    assert "large messages" in finding.observed
    assert "MTU 1500" in finding.observed


def test_translation_is_seen_by_the_listener() -> None:
    facts = cluster(3)
    masked = spoiled(mesh(facts), lambda dial: dial.source == "node3", seen="10.0.0.254")
    finding = only("net.nat", report(facts, masked))
    assert finding.hosts == ("node3",)
    assert "10.0.0.254" in finding.observed
    assert "node[1-2]" in finding.observed


def test_a_host_that_could_not_listen_is_unknown_and_accuses_nobody() -> None:
    facts = cluster(3)
    deaf = msgspec.structs.replace(
        spoiled(mesh(facts), lambda dial: dial.target == "node2", result="refused"),
        listen_errors={"node2": "out of ports"},
    )
    found = report(facts, deaf)
    assert found.verdict == "unknown"
    assert found.hosts == {"node1": "ready", "node2": "unknown", "node3": "ready"}


def test_a_host_that_did_not_tell_is_unknown() -> None:
    facts = cluster(3)
    full = mesh(facts)
    silent = msgspec.structs.replace(full, dials=tuple(dial for dial in full.dials if dial.source != "node3"))
    assert report(facts, silent).hosts["node3"] == "unknown"


def test_a_busy_master_port() -> None:
    facts = cluster(2)
    busy = msgspec.structs.replace(mesh(facts), master_error="port 29500 is in use by pid 7 (python)")
    finding = only("net.master-port", report(facts, busy))
    assert finding.hosts == ("node1",)


def test_a_master_port_behind_a_firewall() -> None:
    facts = cluster(3)
    blocked = spoiled(mesh(facts), lambda dial: dial.kind == "master", result="unreachable", seconds=0.0)
    finding = only("net.master-port", report(facts, blocked))
    assert "port 29500: connections from node[2-3] are rejected by a firewall" in finding.observed


def test_a_master_port_that_the_os_may_give_away() -> None:
    facts = cluster(2)
    reached = mesh(facts, master_port=40000)
    finding = only("net.master-port", report(facts, reached, settings=everywhere(facts, MASTER_PORT="40000")))
    assert finding.severity == "warn"
    assert "net.master-port" not in {each.code for each in report(facts, reached).findings}


def test_traffic_that_leaves_by_another_interface() -> None:
    facts = {
        f"node{number}": healthy(
            number, interfaces=(LOOPBACK, nic("eth0", f"10.1.0.{number}"), nic("eth1", f"10.1.0.10{number}"))
        )
        for number in (1, 2)
    }
    astray = spoiled(mesh(facts), lambda dial: dial.source == "node1", device="eth1")
    assert "net.egress" not in {each.code for each in report(facts, astray).findings}
    finding = next(
        each
        for each in report(facts, astray, settings=everywhere(facts, NCCL_SOCKET_IFNAME="=eth0")).findings
        if each.code == "net.egress"
    )
    assert finding.hosts == ("node1",)
    assert finding.observed == "traffic to node2 leaves by eth1 instead of eth0"


def test_simulated_hosts_skip_the_network() -> None:
    facts = cluster(2)
    found = report(facts, mesh(facts), simulated=True)
    reasons = {check.code: check.reason for check in found.checks if check.status == "skip"}
    assert reasons["net.backconnect"].startswith("simulated")
    assert reasons["net.speed"].startswith("simulated")


def test_one_host_has_nobody_to_dial() -> None:
    facts = cluster(1)
    found = report(facts, Reachability(asked=True))
    assert found.verdict == "ready"
