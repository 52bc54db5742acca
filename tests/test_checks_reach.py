"""Dials between hosts -> what is said about them."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from clusterctl.checks.evaluate import Report, evaluate
from clusterctl.checks.finding import Finding
from clusterctl.facts.model import Dial, Facts, Reachability
from clusterctl.network.choose import choose
from clusterctl.network.dials import sample
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
        ("prohibited", 0.0, "admin-prohibited"),
        ("no-host", 0.0, "no such host on the wire"),
        ("unreachable", 0.0, "unreachable"),
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
    assert "-s 10.0.0.0/16 --dport 50000:60000" in finding.fix
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
    assert finding.hosts == ("node1", "node2")
    assert finding.observed == (
        "TCP from node1 to node2 dropped (timeout): node2 does not let it in, or node1 does not let it out"
    )


@pytest.mark.parametrize(
    ("departed", "host", "observed"),
    [
        (True, "node2", "inbound TCP from node1 dropped (timeout)"),
        (False, "node1", "outbound TCP to node2 dropped (timeout)"),
    ],
)
def test_of_two_hosts_the_senders_kernel_tells_whether_it_let_it_out(
    departed: bool, host: str, observed: str
) -> None:
    facts = cluster(2)
    blocked = spoiled(
        mesh(facts),
        lambda dial: dial.source == "node1" and is_ephemeral(dial),
        result="timeout",
        departed=departed,
    )
    finding = only("net.backconnect", report(facts, blocked))
    assert (finding.hosts, finding.observed) == ((host,), observed)


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
    blocked = spoiled(mesh(facts), lambda dial: dial.kind == "master", result="prohibited")
    finding = only("net.master-port", report(facts, blocked))
    assert "port 29500: connections from node[2-3] are rejected by a firewall" in finding.observed


def test_rank_0_is_not_to_blame_for_a_host_that_lets_nothing_out() -> None:
    facts = cluster(4)
    blocked = spoiled(mesh(facts), lambda dial: dial.source == "node3", result="timeout")
    assert only("net.backconnect", report(facts, blocked)).hosts == ("node3",)


def test_a_host_that_alone_does_not_reach_the_master_port_is_named() -> None:
    facts = cluster(4)
    blocked = spoiled(
        mesh(facts), lambda dial: dial.source == "node3" and dial.kind == "master", result="timeout"
    )
    finding = only("net.master-port", report(facts, blocked))
    assert finding.hosts == ("node3",)
    assert finding.observed == "connections to port 29500 of node1 are dropped (timeout), others get through"


def test_a_master_port_that_most_do_not_reach_is_closed() -> None:
    facts = cluster(5)
    blocked = spoiled(
        mesh(facts),
        lambda dial: dial.source in ("node3", "node4") and dial.kind == "master",
        result="timeout",
    )
    finding = only("net.master-port", report(facts, blocked))
    assert finding.hosts == ("node1",)


def test_whoever_says_that_it_rejects_is_believed() -> None:
    """Of two hosts counting cannot tell who it is; the message's sender can."""
    facts = cluster(2)
    for sender, culprit, side in (("10.0.0.3", "node2", "inbound"), ("10.0.0.2", "node1", "outbound")):
        rejected = spoiled(
            mesh(facts),
            lambda dial: dial.source == "node1" and is_ephemeral(dial),
            result="prohibited",
            rejected_by=sender,
        )
        finding = only("net.backconnect", report(facts, rejected))
        assert finding.hosts == (culprit,)
        assert finding.observed.startswith(side)


def test_a_router_between_that_rejects_is_named() -> None:
    facts = cluster(3)
    rejected = spoiled(
        mesh(facts),
        lambda dial: dial.target == "node2" and is_ephemeral(dial),
        result="prohibited",
        rejected_by="10.0.0.254",
    )
    finding = only("net.backconnect", report(facts, rejected))
    assert "rejected by a firewall (admin-prohibited) at 10.0.0.254" in finding.observed


def test_a_rejection_that_is_not_told_of_every_time_is_one_cause() -> None:
    facts = cluster(3)
    rejected = spoiled(
        mesh(facts),
        lambda dial: dial.target == "node2" and is_ephemeral(dial),
        result="prohibited",
        rejected_by="10.0.0.3",
    )
    silent = spoiled(
        rejected, lambda dial: dial.target == "node2" and dial.kind in ("low", "high"), result="timeout"
    )
    finding = only("net.backconnect", report(facts, silent))
    assert finding.observed.startswith("inbound TCP from all 2 peers rejected by a firewall")
    assert "timeout" not in finding.observed


def test_a_peer_whose_process_stands_still_is_unknown_never_a_firewall() -> None:
    facts = cluster(4)
    still = spoiled(mesh(facts), lambda dial: dial.target == "node2", result="connected")
    found = report(facts, still)
    assert found.hosts == {"node1": "ready", "node2": "unknown", "node3": "ready", "node4": "ready"}
    (finding,) = [each for each in found.findings if each.code == "net.backconnect"]
    assert finding.severity == "unknown"
    assert "node[1,3-4]" in finding.observed
    assert not [each for each in found.findings if each.severity == "fail"]


def test_one_port_that_answers_in_time_proves_the_host_for_all() -> None:
    facts = cluster(3)
    late = spoiled(
        mesh(facts), lambda dial: dial.target == "node2" and dial.kind in ("low", "high"), result="connected"
    )
    assert report(facts, late).verdict == "ready"


def test_a_failure_that_could_not_be_repeated_is_unknown() -> None:
    facts = cluster(3)
    doubted = spoiled(
        mesh(facts),
        lambda dial: (dial.source, dial.target) == ("node1", "node2") and is_ephemeral(dial),
        result="unsettled",
        detail="it failed once (timeout), and could not be repeated alone",
    )
    found = report(facts, doubted)
    assert found.hosts == {"node1": "ready", "node2": "unknown", "node3": "ready"}
    assert not [each for each in found.findings if each.severity in ("fail", "warn")]


def test_another_host_that_answers_is_named() -> None:
    facts = cluster(3)
    astray = spoiled(
        mesh(facts),
        lambda dial: dial.target == "node2" and is_ephemeral(dial),
        result="foreign",
        answered="node3",
    )
    finding = only("net.backconnect", report(facts, astray))
    assert finding.observed == "inbound TCP from all 2 peers answered by node3"


def test_a_full_table_of_neighbours_is_no_firewall() -> None:
    facts = cluster(3)
    lost = spoiled(
        mesh(facts), lambda dial: (dial.source, dial.target) == ("node1", "node3"), result="timeout"
    )
    full = msgspec.structs.replace(lost, neighbours={"node1": 17})
    finding = only("net.neighbours", report(facts, full))
    assert finding.hosts == ("node1",)
    assert finding.observed.startswith("the neighbour table had no room 17 times while the hosts dialled")
    assert "gc_thresh3=4096" in finding.fix


def test_a_host_that_bears_a_peers_address_on_a_card_that_is_down_reaches_itself() -> None:
    facts = cluster(3)
    down = nic("eth1", "10.0.0.3", prefix=16, up=False, running=False, carrier=False)
    first = facts["node1"]
    facts["node1"] = msgspec.structs.replace(first, interfaces=(*first.interfaces, down))
    full = mesh(facts)
    tried = tuple(dial for dial in full.dials if (dial.source, dial.target) != ("node1", "node2"))
    # node1 does not answer ARP to one who asks with its own address.
    lost = spoiled(
        msgspec.structs.replace(full, dials=tried),
        lambda dial: (dial.source, dial.target) == ("node2", "node1"),
        result="no-host",
    )
    found = report(facts, lost)
    (finding,) = [each for each in found.findings if each.severity == "fail"]
    assert (finding.code, finding.hosts) == ("ip.duplicate", ("node1",))
    assert finding.observed == "its eth1, which is down, bears 10.0.0.3, the address of node2"
    assert finding.fix == "sudo ip addr del 10.0.0.3/16 dev eth1"
    (unproven,) = [
        each for each in found.checks if each.code == "net.backconnect" and each.status == "unknown"
    ]
    assert unproven.hosts == ("node1",)


def test_beyond_the_pairs_that_were_tried_nothing_is_missed() -> None:
    facts = cluster(70)
    everything = mesh(facts)
    tried = sample(list(facts))
    some = msgspec.structs.replace(
        everything,
        sampled=True,
        dials=tuple(dial for dial in everything.dials if (dial.source, dial.target) in tried),
    )
    assert report(facts, some).verdict == "ready"
    assert choose(inventory(facts), facts, some).proven
    blocked = spoiled(some, lambda dial: dial.source == "node9" and is_ephemeral(dial), result="timeout")
    assert only("net.backconnect", report(facts, blocked)).hosts == ("node9",)


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


def test_what_left_a_host_once_is_kept_back_by_nobody_there() -> None:
    """Two of three paths were repeated: a kernel that let one out is no witness against its host."""
    facts = cluster(4)

    def blocked(departed: dict[str, bool]) -> Finding:
        reached = spoiled(mesh(facts), lambda dial: dial.source == "node4", result="timeout")
        dials = (
            msgspec.structs.replace(dial, departed=departed.get(dial.target))
            if dial.source == "node4"
            else dial
            for dial in reached.dials
        )
        reached = msgspec.structs.replace(reached, dials=tuple(dials))
        return only("net.backconnect", report(facts, reached))

    assert blocked({"node1": False, "node2": False}).hosts == ("node4",)
    assert "outbound TCP to all 3 peers" in blocked({"node1": False}).observed
    assert "outbound TCP to all 3 peers" in blocked({"node1": False, "node2": True}).observed
