from __future__ import annotations

from collections.abc import Mapping

import msgspec

from clusterctl.facts.model import Address, Facts
from clusterctl.network.candidates import candidates
from tests.builders import DOCKER0, LOOPBACK, altered, cluster, healthy, nic


def test_each_host_offers_its_own_address() -> None:
    assert candidates(cluster(2)) == {
        "node1": (("eth0", "10.0.0.2"),),
        "node2": (("eth0", "10.0.0.3"),),
    }


def test_an_address_that_every_host_bears_is_nobodys() -> None:
    facts = {
        host: msgspec.structs.replace(of_host, interfaces=(DOCKER0, *of_host.interfaces))
        for host, of_host in cluster(3).items()
    }
    assert all(names == ("eth0",) for names in _names(facts).values())


def test_a_bridge_with_an_address_of_its_own_stays() -> None:
    facts = altered(cluster(2), "node1", interfaces=(LOOPBACK, DOCKER0))
    assert _names(facts)["node1"] == ("docker0",)


def test_no_cable_no_candidate() -> None:
    dead = nic("eth1", "10.9.0.1", carrier=False, running=False)
    facts = altered(cluster(2), "node1", interfaces=(LOOPBACK, dead, nic("eth0", "10.0.0.2")))
    assert _names(facts)["node1"] == ("eth0",)


def test_a_link_local_address_is_none() -> None:
    facts = altered(cluster(2), "node1", interfaces=(LOOPBACK, nic("usb0", "169.254.3.1")))
    assert _names(facts)["node1"] == ()


def test_ipv6_serves_when_one_host_has_nothing_else() -> None:
    both = msgspec.structs.replace(
        nic("eth0", "10.0.0.2"),
        addresses=(Address("inet", "10.0.0.2", 24), Address("inet6", "2001:db8::2", 64)),
    )
    facts = altered(cluster(2), "node1", interfaces=(LOOPBACK, both))
    facts = altered(facts, "node2", interfaces=(LOOPBACK, nic("eth0", "2001:db8::3", prefix=64)))
    assert candidates(facts) == {
        "node1": (("eth0", "2001:db8::2"),),
        "node2": (("eth0", "2001:db8::3"),),
    }


def test_entries_of_one_machine_share_its_addresses() -> None:
    twin = msgspec.structs.replace(healthy(1), host="alias")
    found = candidates({"node1": healthy(1), "alias": twin})
    assert found["node1"] == found["alias"]
    assert ("eth0", "10.0.0.2") in found["alias"]
    assert ("lo", "127.0.0.1") in found["alias"]


def _names(facts: Mapping[str, Facts]) -> dict[str, tuple[str, ...]]:
    return {host: tuple(name for name, _ in pairs) for host, pairs in candidates(facts).items()}
