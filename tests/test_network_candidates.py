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


def test_a_bridge_with_carrier_on_one_host_only_is_nobodys() -> None:
    """The others bear its address too, without carrier: each of them would reach itself."""
    idle = msgspec.structs.replace(DOCKER0, carrier=False, running=False)
    facts = {
        host: msgspec.structs.replace(
            of_host, interfaces=(DOCKER0 if host == "node1" else idle, *of_host.interfaces)
        )
        for host, of_host in cluster(3).items()
    }
    assert all(names == ("eth0",) for names in _names(facts).values())


def test_an_address_on_a_card_that_is_down_elsewhere_stays_with_the_host_that_needs_it() -> None:
    down = nic("eth1", "10.0.0.3", prefix=16, up=False, running=False, carrier=False)
    facts = altered(cluster(3), "node1", interfaces=(LOOPBACK, nic("eth0", "10.0.0.2", prefix=16), down))
    assert candidates(facts)["node2"] == (("eth0", "10.0.0.3"),)
    # Where it has another one in that network it does without.
    spare = nic("eth2", "10.0.0.33", prefix=16)
    facts = altered(facts, "node2", interfaces=(LOOPBACK, nic("eth0", "10.0.0.3", prefix=16), spare))
    assert candidates(facts)["node2"] == (("eth2", "10.0.0.33"),)


def _names(facts: Mapping[str, Facts]) -> dict[str, tuple[str, ...]]:
    return {host: tuple(name for name, _ in pairs) for host, pairs in candidates(facts).items()}
