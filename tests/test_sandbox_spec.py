from __future__ import annotations

import pytest

from clusterctl.errors import UsageError
from clusterctl.sandbox.spec import HostSpec, Nic, check_hosts, check_name, numbered


def test_one_slot_count_serves_all_nodes_and_several_serve_one_each() -> None:
    assert [host.slots for host in numbered(3, (2,))] == [2, 2, 2]
    assert [(host.name, host.slots) for host in numbered(2, (3, 1))] == [("node1", 3), ("node2", 1)]


@pytest.mark.parametrize(("nodes", "slots"), [(0, (1,)), (251, (1,)), (3, (1, 2)), (2, (0,)), (2, ())])
def test_counts_that_make_no_sandbox_are_refused(nodes: int, slots: tuple[int, ...]) -> None:
    with pytest.raises(UsageError):
        numbered(nodes, slots)


@pytest.mark.parametrize("name", ["", ".cache", "a/b", "../x", "a b", "x" * 33])
def test_a_sandbox_name_is_always_one_plain_directory(name: str) -> None:
    with pytest.raises(UsageError):
        check_name(name)


@pytest.mark.parametrize(
    ("hosts", "says"),
    [
        ([], "1 to"),
        ([HostSpec("a"), HostSpec("a")], "same name"),
        ([HostSpec("a b")], "'a b'"),
        ([HostSpec("a;reboot")], "host's name"),
        ([HostSpec("a", slots=0)], "a: slots"),
        ([HostSpec("a", nics=())], "a: the first network card"),
        ([HostSpec("a", nics=(Nic("eth0", address=""),))], "needs an address"),
        (
            [HostSpec("a"), HostSpec("b", nics=(Nic("eth0", "other"),))],
            "b: its first network card is on 'other'",
        ),
        ([HostSpec("a", nics=(Nic("lo"),))], "names of its network cards"),
        ([HostSpec("a", nics=(Nic("x" * 16),))], "names of its network cards"),
        ([HostSpec("a", nics=(Nic("eth0\nlink"),))], "names of its network cards"),
    ],
)
def test_hosts_that_cannot_be_built_are_refused_by_name(hosts: list[HostSpec], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        check_hosts(hosts)
