from __future__ import annotations

from ipaddress import IPv4Network

import pytest

from clusterctl.errors import UsageError
from clusterctl.sandbox.addresses import known_neighbours, plan_addresses
from clusterctl.sandbox.spec import HostSpec, Nic


def test_hosts_of_one_network_get_consecutive_addresses_and_the_controller_the_last() -> None:
    networks, cards = plan_addresses("box", [HostSpec("a"), HostSpec("b")], [])
    subnet = IPv4Network(networks[0].subnet)
    assert [card.address for (card,) in cards] == [str(subnet[1]), str(subnet[2])]
    assert networks[0].controller == str(subnet[-2])
    assert subnet.prefixlen == 24


def test_a_subnet_that_is_taken_is_never_chosen() -> None:
    first, _ = plan_addresses("box", [HostSpec("a")], [])
    second, _ = plan_addresses("box", [HostSpec("a")], [IPv4Network(first[0].subnet)])
    assert first[0].subnet != second[0].subnet
    half, _ = plan_addresses("box", [HostSpec("a")], [IPv4Network("10.0.0.0/9")])
    assert not IPv4Network(half[0].subnet).overlaps(IPv4Network("10.0.0.0/9"))


def test_each_network_is_a_subnet_of_its_own_and_only_the_first_has_the_controller() -> None:
    nics = (Nic("eno1"), Nic("ib0", network="fabric"))
    networks, cards = plan_addresses("box", [HostSpec("a", nics=nics), HostSpec("b", nics=nics)], [])
    lan, fabric = networks
    assert not IPv4Network(lan.subnet).overlaps(IPv4Network(fabric.subnet))
    assert lan.controller and fabric.controller == ""
    assert [card.bridge for card in cards[0]] == [lan.bridge, fabric.bridge]


def test_a_given_address_sets_the_subnet_and_is_never_given_twice() -> None:
    hosts = [HostSpec("a"), HostSpec("b", nics=(Nic("eth0", address="192.168.7.1/28"),))]
    networks, cards = plan_addresses("box", hosts, [])
    assert networks[0].subnet == "192.168.7.0/28"
    assert cards[1][0].address == "192.168.7.1"
    assert cards[0][0].address == "192.168.7.2"
    assert cards[1][0].prefix == 28


def test_a_card_may_have_no_address() -> None:
    nics = (Nic("eth0"), Nic("eth1", network="spare", address=""))
    _, cards = plan_addresses("box", [HostSpec("a", nics=nics)], [])
    assert cards[0][1].address == ""


def test_every_cable_ends_in_a_port_of_its_own() -> None:
    nics = (Nic("eth0"), Nic("eth1"))
    _, cards = plan_addresses("box", [HostSpec(f"h{i}", nics=nics) for i in range(64)], [])
    ports = [card.port for host in cards for card in host]
    assert len(set(ports)) == 128
    assert max(map(len, ports)) <= 15


def test_a_full_subnet_is_said() -> None:
    hosts = [
        HostSpec(f"h{i}", nics=(Nic("eth0", address="10.1.1.1/30" if i == 0 else None),)) for i in range(4)
    ]
    with pytest.raises(UsageError, match=r"10\.1\.1\.0/30 has no address left"):
        plan_addresses("box", hosts, [])


def test_a_wrong_address_names_the_host_and_the_card() -> None:
    with pytest.raises(UsageError, match="gpu3: eth0"):
        plan_addresses("box", [HostSpec("gpu3", nics=(Nic("eth0", address="10.1.1.300"),))], [])


def test_many_hosts_know_their_neighbours_and_few_ask_for_them() -> None:
    _, few = plan_addresses("box", [HostSpec(f"h{i}") for i in range(8)], [])
    assert known_neighbours(few) == {}
    nics = (Nic("eth0"), Nic("ib0", "fabric"), Nic("eth9", "spare", ""))
    _, many = plan_addresses("box", [HostSpec(f"h{i}", nics=nics) for i in range(64)], [])
    known = known_neighbours(many)
    assert set(known) == {"lan", "fabric"}
    assert len({mac for members in known.values() for _, mac in members}) == 128
