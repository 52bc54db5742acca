"""Whom doctor blames for paths that do not pass: on an idle machine and on one that has no time."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence

import pytest

from clusterctl.ask.facts import CollectedFacts, FactsRequest, ask
from clusterctl.checks.evaluate import Report, evaluate
from clusterctl.inventory.hostfile import parse
from clusterctl.network.choose import choose
from clusterctl.sandbox import HostSpec, Nic, Sandbox
from clusterctl.sandbox.host import VirtualHost
from clusterctl.settings import ASK
from clusterctl.transport import connect
from tests.busy import all_cores_busy

pytestmark = pytest.mark.sandbox

MakeSandbox = Callable[..., Sandbox]
OnAwaiting = Callable[[str, Sequence[str]], None]


@pytest.fixture(params=["busy", pytest.param("idle", marks=pytest.mark.long)])
def load(request: pytest.FixtureRequest) -> Iterator[None]:
    """With "busy", two processes that take all the time of two cores."""
    with all_cores_busy(2) if request.param == "busy" else contextlib.nullcontext():
        yield


def examined(box: Sandbox, on_awaiting: OnAwaiting | None = None) -> tuple[CollectedFacts, Report]:
    transport = connect("fabric", box.ssh_config)
    inventory = parse(box.hostfile.read_text(encoding="utf-8"), str(box.hostfile))
    try:
        answers = ask(transport, inventory, FactsRequest(torch=False), on_awaiting=on_awaiting)
    finally:
        transport.close()
    network = choose(inventory, answers.facts, answers.reachability)
    failures = tuple(answers.failures.values())
    return answers, evaluate(inventory, answers.facts, failures, answers.reachability, network)


def failures(report: Report) -> dict[str, tuple[str, ...]]:
    return {each.code: each.hosts for each in report.findings if each.severity == "fail"}


def observed(report: Report, code: str) -> str:
    return next(each.observed for each in report.findings if each.code == code)


def session_of(host: VirtualHost) -> int:
    """The process that listens on ``host`` for the examination that is going on."""
    for pid in host.pids():
        if b"\0-I\0-S\0-c\0" in (host.root / "proc" / str(pid) / "cmdline").read_bytes():
            return pid
    raise AssertionError(f"nothing of ours runs on {host.name}")


def hosts(*names: str) -> list[HostSpec]:
    return [HostSpec(name) for name in names]


@pytest.mark.usefixtures("load")
def test_a_healthy_cluster_is_clean_however_busy_the_machine_is(sandbox: Sandbox) -> None:
    _, report = examined(sandbox)
    assert failures(report) == {}
    assert report.verdict == "ready"


@pytest.mark.usefixtures("load")
def test_a_host_that_lets_nothing_out_is_blamed_and_rank_0_is_not(make_sandbox: MakeSandbox) -> None:
    box = make_sandbox(hosts=hosts("a", "b", "c"))
    box.host("b").block("out", "drop", (1024, 65535))
    _, report = examined(box)
    assert failures(report) == {"net.backconnect": ("b",)}
    assert observed(report, "net.backconnect") == "outbound TCP to all 2 peers dropped (timeout)"


@pytest.mark.usefixtures("load")
def test_a_host_that_lets_nothing_in_is_blamed(make_sandbox: MakeSandbox) -> None:
    box = make_sandbox(hosts=hosts("a", "b", "c"))
    box.host("a").block("in", "drop", (1024, 65535))
    _, report = examined(box)
    assert failures(report) == {"net.backconnect": ("a",)}
    assert observed(report, "net.backconnect") == "inbound TCP from all 2 peers dropped (timeout)"


def test_of_two_hosts_the_one_that_rejects_is_told_by_its_message(make_sandbox: MakeSandbox) -> None:
    box = make_sandbox(hosts=hosts("a", "b"))
    for kind in ("admin-prohibited", "host-prohibited", "port-unreachable"):
        rule = [
            "-p",
            "tcp",
            "--syn",
            "--dport",
            "32768:60999",
            "-j",
            "REJECT",
            "--reject-with",
            f"icmp-{kind}",
        ]
        box.host("a").admin(["iptables", "-A", "OUTPUT", *rule])
        _, report = examined(box)
        assert failures(report) == {"net.backconnect": ("a",)}, kind
        assert observed(report, "net.backconnect").startswith("outbound TCP to b rejected by a firewall")
        box.host("a").unblock()


@pytest.mark.usefixtures("load")
def test_an_address_that_nobody_answers_for_is_no_firewall(make_sandbox: MakeSandbox) -> None:
    """The second network is dead for b: it is told as that, and the first one serves."""
    cards = {
        name: (Nic("eth0"), Nic("eth1", "fast", f"10.9.0.{rank}/24")) for rank, name in enumerate("abc", 1)
    }
    box = make_sandbox(hosts=[HostSpec(name, nics=nics) for name, nics in cards.items()])
    box.host("b").admin(["ip", "link", "set", "eth1", "arp", "off"])
    answers, report = examined(box)
    into = {dial.result for dial in answers.reachability.dials if dial.address == "10.9.0.2"}
    assert into == {"no-host"}
    assert "net.backconnect" not in failures(report)


def test_dead_addresses_cost_one_dial_for_each_peer(make_sandbox: MakeSandbox) -> None:
    dead = [Nic(f"eth{number}", f"dead{number}") for number in range(1, 5)]
    box = make_sandbox(hosts=[HostSpec(name, nics=(Nic("eth0"), *dead)) for name in "abc"])
    for host in box.hosts:
        for nic in dead:
            host.admin(["iptables", "-A", "INPUT", "-i", nic.name, "-j", "DROP"])
    answers, report = examined(box)
    assert failures(report) == {}
    ways = {(dial.source, dial.target, dial.address) for dial in answers.reachability.dials}
    in_vain = [dial for dial in answers.reachability.dials if dial.result != "ok"]
    assert len(ways) == 3 * 2 * 5
    assert len(in_vain) == 3 * 2 * 4


@pytest.mark.usefixtures("load")
def test_a_process_that_stands_still_is_unknown_never_a_firewall(
    make_sandbox: MakeSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = dataclasses.replace(ASK, reply_timeout=3.0, alive_interval=5.0, alive_timeout=10.0)
    monkeypatch.setattr("clusterctl.ask.mesh.ASK", patient)
    monkeypatch.setattr("clusterctl.ask.collector.ASK", patient)
    box = make_sandbox(hosts=hosts("a", "b", "c"))
    stopped: list[int] = []

    def stop(kind: str, awaited: Sequence[str]) -> None:
        if kind == "listening" and not awaited and not stopped:
            stopped.append(session_of(box.host("b")))
            box.host("b").admin(["kill", "-STOP", str(stopped[0])])

    answers, report = examined(box, stop)
    box.host("b").admin(["kill", "-CONT", str(stopped[0])])
    assert failures(report) == {}
    into = {dial.result for dial in answers.reachability.dials if dial.target == "b"}
    assert into == {"connected"}
    assert report.hosts == {"a": "ready", "b": "unknown", "c": "ready"}


def test_one_lets_nobody_in_and_another_nothing_out(make_sandbox: MakeSandbox) -> None:
    box = make_sandbox(hosts=hosts("a", "b", "c", "d"))
    box.host("b").block("in", "drop", (1024, 65535))
    box.host("c").block("out", "drop", (1024, 65535))
    _, report = examined(box)
    found = {each.hosts: each.observed for each in report.findings if each.code == "net.backconnect"}
    assert found == {
        ("b",): "inbound TCP from a,d dropped (timeout)",  # of what c sends nothing arrives
        ("c",): "outbound TCP to all 3 peers dropped (timeout)",
    }
    assert set(failures(report)) == {"net.backconnect"}


def test_one_host_that_may_not_dial_the_master_port_is_named(make_sandbox: MakeSandbox) -> None:
    box = make_sandbox(hosts=hosts("a", "b", "c", "d"))
    box.host("c").block("out", "drop", (29500, 29700))
    _, report = examined(box)
    assert failures(report) == {"net.master-port": ("c",)}


def test_lossy_and_slow_paths_are_no_firewalls(make_sandbox: MakeSandbox) -> None:
    box = make_sandbox(hosts=hosts("a", "b", "c"))
    lossy = ["-m", "statistic", "--mode", "random", "--probability", "0.1", "-j", "DROP"]
    box.host("b").admin(["iptables", "-A", "INPUT", *lossy])
    box.host("c").limit_bandwidth("eth0", "5mbit")
    _, report = examined(box)
    assert not {"net.backconnect", "net.pmtu", "net.master-port"} & failures(report).keys()


def test_a_bridge_with_carrier_on_one_host_only_leads_nowhere(make_sandbox: MakeSandbox) -> None:
    box = make_sandbox(hosts=hosts("a", "b", "c"))
    for host in box.hosts:
        host.add_decoy_bridge("docker0", "172.17.0.1/16", carrier=host.name == "a")
    answers, report = examined(box)
    assert failures(report) == {}
    assert not [dial for dial in answers.reachability.dials if dial.address == "172.17.0.1"]


def test_a_peers_address_on_a_card_that_is_down_is_one_finding(make_sandbox: MakeSandbox) -> None:
    box = make_sandbox(hosts=hosts("a", "b", "c"))
    box.host("a").admin(["ip", "link", "add", "old0", "type", "bridge"])
    box.host("a").admin(["ip", "addr", "add", f"{box.host('b').address()}/24", "dev", "old0"])
    _, report = examined(box)
    assert failures(report) == {"ip.duplicate": ("a",)}
    assert report.hosts == {"a": "not-ready", "b": "ready", "c": "ready"}


@pytest.mark.long
def test_a_black_hole_before_every_host_is_nobodys_in_particular(make_sandbox: MakeSandbox) -> None:
    box = make_sandbox(hosts=[HostSpec(name, nics=(Nic("eth0", mtu=9000),)) for name in "abc"])
    for host in box.hosts:
        host.set_switch_mtu("eth0", 1500)
        # A real card cuts segments before the switch sees them; a virtual cable hands them over whole.
        host.admin(["ip", "link", "set", "eth0", "gso_max_segs", "1"])
    _, report = examined(box)
    assert failures(report) == {"net.pmtu": ("a", "b", "c")}
