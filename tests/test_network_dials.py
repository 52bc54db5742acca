"""Which dials are made: every pair both ways, and no more megabytes than the network can bear."""

from __future__ import annotations

from itertools import pairwise, permutations

import pytest

from clusterctl.facts.model import PortKind
from clusterctl.network.dials import Listener, Order, ephemeral_ports, plan_dials


def listeners(count: int, networks: int = 1) -> dict[str, tuple[Listener, ...]]:
    ephemeral: tuple[PortKind, ...] = ("ephemeral",)
    kinds: tuple[PortKind, ...] = (*ephemeral * ephemeral_ports(count), "low", "middle", "high")
    return {
        f"node{host}": tuple(
            Listener(f"10.{network}.{host // 250}.{host % 250 + 1}", 40000 + position, kind)
            for network in range(networks)
            for position, kind in enumerate(kinds, start=1)
        )
        for host in range(count)
    }


def pairs(plan: dict[str, tuple[Order, ...]], *, bulk: bool = False) -> set[tuple[str, str]]:
    return {
        (source, order.target)
        for source, orders in plan.items()
        for order in orders
        if order.bulk or not bulk
    }


@pytest.mark.parametrize("count", [2, 8, 33, 64, 100])
def test_every_host_dials_every_other_and_never_itself(count: int) -> None:
    plan = plan_dials(listeners(count), all_pairs=count > 64)
    assert pairs(plan) == set(permutations((f"node{host}" for host in range(count)), 2))


@pytest.mark.parametrize("count", [65, 128, 256])
def test_beyond_64_hosts_each_visits_a_few_and_the_orders_grow_with_the_hosts(count: int) -> None:
    plan = plan_dials(listeners(count))
    visited = pairs(plan)
    hosts = list(plan)
    assert all({("node0", host), (host, "node0")} <= visited for host in hosts[1:])
    assert all({(near, far), (far, near)} <= visited for near, far in pairwise(hosts))
    most = 2 * count.bit_length() + 2
    for host in hosts[1:]:
        assert 4 <= len([edge for edge in visited if edge[0] == host]) <= most
        assert 4 <= len([edge for edge in visited if edge[1] == host]) <= most
    assert sum(map(len, plan.values())) <= 4 * count * (most + 2)


def test_in_each_round_the_host_after_the_next_is_visited() -> None:
    plan = plan_dials(listeners(5))
    assert list(dict.fromkeys(order.target for order in plan["node3"])) == [
        "node4",
        "node0",
        "node1",
        "node2",
    ]


def test_an_address_that_the_visitor_bears_itself_is_not_tried() -> None:
    heard = {
        "a": (Listener("10.0.0.1", 1, "ephemeral"),),
        "b": (Listener("10.0.0.2", 1, "ephemeral"), Listener("10.9.0.2", 1, "ephemeral")),
    }
    plan = plan_dials(heard, bears={"a": {"10.0.0.1", "10.0.0.2"}, "b": {"10.0.0.2", "10.9.0.2"}})
    assert [order.address for order in plan["a"]] == ["10.9.0.2"]
    assert [order.address for order in plan["b"]] == ["10.0.0.1"]


def test_up_to_32_hosts_every_pair_moves_one_megabyte_on_every_network() -> None:
    plan = plan_dials(listeners(32, networks=2))
    for source, orders in plan.items():
        heavy = [(order.target, order.address) for order in orders if order.bulk]
        assert len(heavy) == len(set(heavy)) == 31 * 2, source


@pytest.mark.parametrize("count", [33, 64, 256])
def test_beyond_each_host_moves_few_megabytes_but_none_is_left_out(count: int) -> None:
    plan = plan_dials(listeners(count))
    heavy = pairs(plan, bulk=True)
    hosts = list(plan)
    for near, far in pairwise(hosts):
        assert {(near, far), (far, near)} <= heavy
    assert all({("node0", host), (host, "node0")} <= heavy for host in hosts[1:])
    for host in hosts[1:]:
        assert len([pair for pair in heavy if pair[0] == host]) <= 2 * count.bit_length() + 2


def test_both_ends_and_the_middle_of_the_port_range_are_tried() -> None:
    plan = plan_dials(listeners(4))
    assert {order.kind for order in plan["node0"]} == {"ephemeral", "low", "middle", "high"}


def test_the_master_port_is_dialled_by_all_others() -> None:
    heard = listeners(40)
    heard["node0"] += (Listener("10.0.0.1", 29500, "master"),)
    plan = plan_dials(heard)
    callers = [source for source, orders in plan.items() if any(order.kind == "master" for order in orders)]
    assert callers == [f"node{host}" for host in range(1, 40)]


def test_hosts_do_not_all_begin_with_the_same_target() -> None:
    plan = plan_dials(listeners(8))
    assert len({orders[0].target for orders in plan.values()}) == 8


def test_a_host_that_listens_nowhere_still_dials() -> None:
    heard = listeners(3)
    heard["node1"] = ()
    plan = plan_dials(heard)
    assert {order.target for order in plan["node1"]} == {"node0", "node2"}
    assert {order.target for order in plan["node0"]} == {"node2"}
