"""Traffic between real hosts: what passes, what does not, and the way it does not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from itertools import permutations

import pytest

from clusterctl.ask.facts import FactsRequest, ask
from clusterctl.facts.model import Dial, Reachability
from clusterctl.inventory.hostfile import parse
from clusterctl.sandbox import HostSpec, Nic, Sandbox
from clusterctl.transport import connect

pytestmark = pytest.mark.sandbox

MakeSandbox = Callable[..., Sandbox]


def traffic(box: Sandbox) -> Reachability:
    transport = connect("fabric", box.ssh_config)
    try:
        inventory = parse(box.hostfile.read_text(encoding="utf-8"), str(box.hostfile))
        answers = ask(transport, inventory, FactsRequest(torch=False))
    finally:
        transport.close()
    assert not answers.failures
    assert answers.reachability.asked and not answers.reachability.listen_errors
    return answers.reachability


def results(reachability: Reachability, *, kind: str = "") -> dict[tuple[str, str], set[str]]:
    found: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for dial in reachability.dials:
        if kind in ("", dial.kind):
            found[dial.source, dial.target].add(dial.result)
    return dict(found)


def dials(reachability: Reachability, source: str, target: str) -> list[Dial]:
    return [dial for dial in reachability.dials if (dial.source, dial.target) == (source, target)]


def test_in_a_healthy_cluster_everything_passes_both_ways(sandbox: Sandbox) -> None:
    reachability = traffic(sandbox)
    names = [host.name for host in sandbox.hosts]
    assert results(reachability) == {pair: {"ok"} for pair in permutations(names, 2)}
    assert {dial.kind for dial in reachability.dials} == {"ephemeral", "low", "middle", "high", "master"}
    assert results(reachability, kind="master") == {(name, "node1"): {"ok"} for name in names[1:]}
    addresses = {host.name: host.address() for host in sandbox.hosts}
    for dial in reachability.dials:
        assert (dial.address, dial.seen, dial.device) == (
            addresses[dial.target],
            addresses[dial.source],
            "eth0",
        )


def test_each_kind_of_firewall_has_its_own_word(make_sandbox: MakeSandbox) -> None:
    box = make_sandbox(hosts=[HostSpec(name) for name in ("open", "drops", "resets", "rejects")])
    box.host("drops").block("in", "drop", ports=(32768, 60999))
    box.host("resets").block("in", "reset", ports=(32768, 60999))
    box.host("rejects").block("in", "admin-prohibited", ports=(32768, 60999))
    reachability = traffic(box)
    found = results(reachability, kind="ephemeral")
    for source, target in found:
        expected = {"open": "ok", "drops": "timeout", "resets": "refused", "rejects": "prohibited"}[target]
        # Not every rejected request is told of: kernels limit the rate of ICMP messages.
        also = {"timeout"} if expected == "prohibited" else set()
        assert expected in found[source, target] <= {expected} | also, (source, target)
    assert results(reachability, kind="master")["drops", "open"] == {"ok"}


def test_a_firewall_that_opens_half_the_range_is_seen(make_sandbox: MakeSandbox) -> None:
    box = make_sandbox(hosts=[HostSpec("a"), HostSpec("b")])
    box.host("b").block("in", "reset", ports=(50000, 60999))
    by_kind = {dial.kind: dial.result for dial in dials(traffic(box), "a", "b") if dial.kind != "ephemeral"}
    assert (by_kind["low"], by_kind["middle"], by_kind["high"]) == ("ok", "ok", "refused")


def test_a_black_hole_for_large_packets_is_a_stall(make_sandbox: MakeSandbox) -> None:
    box = make_sandbox(hosts=[HostSpec(name, nics=(Nic("eth0", mtu=9000),)) for name in ("a", "b", "c")])
    box.host("c").set_switch_mtu("eth0", 1500)
    for host in box.hosts:
        # A real card cuts segments before the switch sees them; a virtual cable hands them over whole.
        host.admin(["ip", "link", "set", "eth0", "gso_max_segs", "1"])
    reachability = traffic(box)
    found = results(reachability, kind="ephemeral")
    assert found["a", "b"] == {"ok"}
    assert "stall" in found["a", "c"] | found["c", "a"]
    assert results(reachability, kind="low")["a", "c"] == {"ok"}


def test_every_network_is_tried_and_the_way_out_is_named(make_sandbox: MakeSandbox) -> None:
    box = make_sandbox(
        hosts=[
            HostSpec("a", nics=(Nic("eth0"), Nic("eno1", "fast", "10.9.0.1/24"))),
            HostSpec("b", nics=(Nic("eth0"), Nic("enp5s0", "fast", "10.9.0.2/24"))),
        ]
    )
    for host in box.hosts:
        host.add_decoy_bridge()
    reachability = traffic(box)
    ways = {(dial.source, dial.address, dial.device, dial.seen) for dial in reachability.dials}
    a, b = box.host("a").address(), box.host("b").address()
    assert ways == {
        ("a", b, "eth0", a),
        ("a", "10.9.0.2", "eno1", "10.9.0.1"),
        ("b", a, "eth0", b),
        ("b", "10.9.0.1", "enp5s0", "10.9.0.2"),
    }
    assert {dial.result for dial in reachability.dials} == {"ok"}
