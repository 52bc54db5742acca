from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest

from clusterctl.facts.model import Facts, Reachability, Variable
from clusterctl.network.candidates import candidates
from clusterctl.network.choose import choose
from clusterctl.network.groups import Member, _grow, groups, members
from clusterctl.network.model import Setting
from clusterctl.network.traffic import Traffic
from tests.builders import (
    DOCKER0,
    IB_PORT,
    LOOPBACK,
    altered,
    cluster,
    everywhere,
    healthy,
    inventory,
    mesh,
    nic,
)


def two_networks(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Facts]:
    """Two hosts with two NICs each: ``a0``/``b0`` in 10.1.0.0/24 and ``a1``/``b1`` in 10.2.0.0/24."""
    return {
        f"node{number}": healthy(
            number,
            interfaces=(
                LOOPBACK,
                nic(f"{letter}0", f"10.1.0.{number}", **{"index": 2, **first}),
                nic(f"{letter}1", f"10.2.0.{number}", **{"index": 3, **second}),
            ),
            ssh_address="192.0.2.1",
        )
        for number, letter in ((1, "a"), (2, "b"))
    }


def names(facts: dict[str, Facts], *, proven: bool = True, **options: object) -> dict[str, str]:
    reachability = {"reachability": mesh(facts)} if proven else {}
    network = choose(inventory(facts), facts, **reachability, **options)  # type: ignore[arg-type]
    assert not network.problem
    assert network.proven is proven
    return {entry.host: entry.ifname for entry in network.hosts}


@pytest.mark.parametrize("proven", [True, False])
@pytest.mark.parametrize(
    ("first", "second", "wins"),
    [
        ({"speed": 1_000}, {"speed": 25_000}, "1"),
        ({"speed": 25_000}, {"speed": 1_000}, "0"),
        ({"kind": "veth"}, {"kind": "physical"}, "1"),
        ({"kind": "wireless", "speed": None}, {"speed": 1_000}, "1"),
        ({"kind": "wireguard", "speed": None}, {"kind": "wireless", "speed": None}, "1"),
        ({"mtu": 1500}, {"mtu": 9000}, "1"),
        ({}, {}, "0"),
    ],
)
def test_the_better_network_wins(
    first: dict[str, Any], second: dict[str, Any], wins: str, proven: bool
) -> None:
    facts = two_networks(first, second)
    assert names(facts, proven=proven) == {"node1": f"a{wins}", "node2": f"b{wins}"}


def test_the_second_best_is_told_with_the_reason() -> None:
    facts = two_networks({"speed": 1_000}, {"speed": 25_000})
    (other,) = choose(inventory(facts), facts, mesh(facts)).alternatives
    assert other.subnet == "10.1.0.0/24"
    assert other.reason == "1 Gb/s instead of 25"
    assert other.members == {"node1": "a0", "node2": "b0"}


def test_traffic_beats_speed() -> None:
    facts = two_networks({"speed": 1_000}, {"speed": 25_000})
    reachability = mesh(facts)
    blocked = tuple(
        msgspec.structs.replace(dial, result="timeout") if dial.address == "10.2.0.2" else dial
        for dial in reachability.dials
    )
    network = choose(inventory(facts), facts, msgspec.structs.replace(reachability, dials=blocked))
    assert network.proven
    assert network.subnet == "10.1.0.0/24"
    assert network.alternatives[0].reason == "traffic failed on 1 of its paths"


def test_a_translated_address_proves_nothing() -> None:
    facts = cluster(2)
    reachability = mesh(facts)
    masked = tuple(msgspec.structs.replace(dial, seen="10.0.0.250") for dial in reachability.dials)
    network = choose(inventory(facts), facts, msgspec.structs.replace(reachability, dials=masked))
    assert not network.proven


def test_decoy_bridges_with_one_address_are_not_a_network() -> None:
    facts = {
        host: msgspec.structs.replace(
            of_host, interfaces=(LOOPBACK, DOCKER0, nic(ifname, f"10.0.0.{number}"))
        )
        for number, ((host, of_host), ifname) in enumerate(
            zip(cluster(2).items(), ("eno1", "enp5s0"), strict=True), start=1
        )
    }
    assert names(facts, proven=False) == {"node1": "eno1", "node2": "enp5s0"}


def test_routed_subnets_are_one_network_when_traffic_says_so() -> None:
    facts = {
        f"node{number}": healthy(number, interfaces=(LOOPBACK, nic("eth0", f"10.{number}.0.1")))
        for number in (1, 2, 3)
    }
    network = choose(inventory(facts), facts, mesh(facts))
    assert network.proven
    assert network.subnet == "10.1.0.0/24, 10.2.0.0/24, 10.3.0.0/24"


def test_routed_subnets_without_traffic_follow_ssh() -> None:
    facts = {
        f"node{number}": healthy(
            number,
            interfaces=(
                LOOPBACK,
                nic("br0", f"10.99.{number}.1", kind="bridge"),
                nic("eth0", f"10.{number}.0.1"),
            ),
            ssh_address=f"10.{number}.0.1",
        )
        for number in (1, 2)
    }
    network = choose(inventory(facts), facts)
    assert [entry.ifname for entry in network.hosts] == ["eth0", "eth0"]
    assert not network.problem


def test_a_host_alone_on_its_subnet_is_named() -> None:
    facts = altered(cluster(3), "node2", interfaces=(LOOPBACK, nic("ib9", "172.30.0.9")), ssh_address="")
    facts = altered(facts, "node2", default_device="")
    network = choose(inventory(facts), facts)
    assert [entry.host for entry in network.hosts] == ["node1", "node3"]
    assert network.problem == "node2 shares no network with the other hosts; it has: ib9 172.30.0.9"


def test_a_lone_host_uses_its_own_address_and_without_one_loopback() -> None:
    facts = cluster(1)
    assert names(facts, proven=True) == {"node1": "eth0"}
    facts = altered(facts, "node1", interfaces=(LOOPBACK,))
    network = choose(inventory(facts), facts)
    assert network.master_addr == "127.0.0.1"


def test_each_host_gets_its_own_variables() -> None:
    facts = two_networks({"speed": 1_000}, {"speed": 25_000})
    network = choose(inventory(facts), facts, mesh(facts))
    assert network.master_addr == "10.2.0.1"
    assert network.hosts[1].env == {
        "NCCL_SOCKET_IFNAME": "=b1",
        "GLOO_SOCKET_IFNAME": "b1",
        "TP_SOCKET_IFNAME": "b1",
        "NCCL_SOCKET_FAMILY": "AF_INET",
        "NCCL_IB_DISABLE": "1",
        "MASTER_ADDR": "10.2.0.1",
    }
    assert network.hosts[1].origins.keys() == network.hosts[1].env.keys()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NCCL_SOCKET_IFNAME", "=a0,b0"),
        ("NCCL_SOCKET_IFNAME", "^=a1,b1"),
        ("GLOO_SOCKET_IFNAME", "a0,b0"),
    ],
)
def test_the_users_setting_wins_and_is_passed_on_as_written(name: str, value: str) -> None:
    facts = two_networks({"speed": 1_000}, {"speed": 25_000})
    network = choose(inventory(facts), facts, mesh(facts), settings=everywhere(facts, **{name: value}))
    assert {entry.ifname for entry in network.hosts} == {"a0", "b0"}
    assert {entry.env[name] for entry in network.hosts} == {value}
    assert network.hosts[0].origins[name] == "--env"


def test_a_setting_on_one_host_names_its_file() -> None:
    facts = two_networks({}, {})
    setting = Variable("NCCL_SOCKET_IFNAME", "=b1", "/etc/nccl.conf:3")
    facts = altered(facts, "node2", variables=(setting,))
    network = choose(inventory(facts), facts, mesh(facts))
    assert [entry.ifname for entry in network.hosts] == ["a1", "b1"]
    assert network.hosts[1].origins["NCCL_SOCKET_IFNAME"] == "/etc/nccl.conf:3 on node2"


def test_a_pin_and_a_setting_for_one_host_hold_that_host_only() -> None:
    facts = two_networks({"speed": 1_000}, {"speed": 25_000})
    network = choose(inventory(facts), facts, mesh(facts), pins={"node1": "a0"})
    assert [entry.ifname for entry in network.hosts] == ["a0", "b0"]
    network = choose(
        inventory(facts),
        facts,
        mesh(facts),
        settings={"node2": (Setting("GLOO_SOCKET_IFNAME", "b0", "profile lab"),)},
    )
    assert [entry.ifname for entry in network.hosts] == ["a0", "b0"]
    network = choose(inventory(facts), facts, pins={"node1": "10.9.0.0/16"})
    assert "the profile's 10.9.0.0/16 leaves no usable interface on node1" in network.problem


def test_a_setting_that_leaves_nothing_is_the_problem() -> None:
    facts = cluster(2)
    network = choose(inventory(facts), facts, settings=everywhere(facts, NCCL_SOCKET_IFNAME="eth9"))
    assert not network.hosts
    assert "NCCL_SOCKET_IFNAME=eth9 (--env) leaves no usable interface on node1" in network.problem


def test_rdma_is_named_when_all_have_it_and_off_when_one_lacks_it() -> None:
    facts = {
        host: msgspec.structs.replace(of_host, rdma=(IB_PORT,), verbs_library=True)
        for host, of_host in cluster(2).items()
    }
    env = choose(inventory(facts), facts).hosts[0].env
    assert env["NCCL_IB_HCA"] == "=mlx5_0:1"
    assert "NCCL_IB_DISABLE" not in env
    facts = altered(facts, "node2", rdma=(msgspec.structs.replace(IB_PORT, state="1: DOWN"),))
    assert [entry.env["NCCL_IB_DISABLE"] for entry in choose(inventory(facts), facts).hosts] == ["1", "1"]


def test_a_thousand_hosts_are_grouped_quickly_enough_to_finish() -> None:
    facts = cluster(1024)
    network = choose(inventory(facts), facts)
    assert len(network.hosts) == 1024


def test_without_traffic_a_subnet_is_grown_once_however_many_hosts_it_has() -> None:
    """Each group as grown from every single member, with a second address on some, must be among them."""
    facts = {}
    for number in range(1, 31):
        mine = nic("eth0", f"10.1.{number % 3}.{number}", index=2)
        if number % 5 == 0:
            further = msgspec.structs.replace(mine.addresses[0], address=f"10.1.{number % 3}.{number + 100}")
            mine = msgspec.structs.replace(mine, addresses=(*mine.addresses, further))
        facts[f"node{number}"] = healthy(number, interfaces=(LOOPBACK, mine))
    traffic = Traffic(facts, Reachability())
    offered = candidates(facts)
    pools = {host: members(facts[host], offered[host]) for host in facts}

    def places(group: Iterable[Member]) -> tuple[tuple[str, str], ...]:
        return tuple((member.host, member.address) for member in group)

    found = {places(group.members) for group in groups(pools, facts, traffic)}
    assert {places(_grow(seed, pools, traffic)) for pool in pools.values() for seed in pool} == {
        key for key in found if len(key) < len(facts)
    }
    assert len(found) == 3 + 6 + 1, "the subnets, the further addresses, and the way SSH arrives"
