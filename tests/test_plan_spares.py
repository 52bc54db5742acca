"""Who stands by, and whose node rank a spare takes: values in, values out."""

from __future__ import annotations

import pytest

from clusterctl.errors import UsageError
from clusterctl.inventory.model import Host, Inventory
from clusterctl.plan.spares import Replacement, blames_hardware, split, substitute


def hosts(**slots: int) -> tuple[Host, ...]:
    return tuple(Host(name, count, tuple(range(count))) for name, count in slots.items())


FOUR = Inventory("hostfile", hosts(n1=2, n2=2, n3=2, n4=2))


@pytest.mark.parametrize(
    ("asked", "active", "spares"),
    [
        ("", "n1 n2 n3 n4", ""),
        ("1", "n1 n2 n3", "n4"),
        ("n1,n3", "n2 n4", "n1 n3"),
        ("n[2-3]", "n1 n4", "n2 n3"),
    ],
)
def test_the_last_hosts_stand_by_or_those_named(asked: str, active: str, spares: str) -> None:
    chosen, left = split(FOUR, asked)
    assert (" ".join(chosen.names), " ".join(host.name for host in left)) == (active, spares)


@pytest.mark.parametrize(
    ("asked", "said"), [("4", "no host would be left"), ("9", "no host would be"), ("n9", "n9 is not among")]
)
def test_what_leaves_nobody_or_is_not_there_is_refused(asked: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        split(FOUR, asked)


def test_a_spare_takes_the_place_of_a_host_not_another_one() -> None:
    found, replaced, without = substitute(hosts(n1=2, n2=2, n3=2), {"n2"}, hosts(s1=2, s2=2))
    assert [host.name for host in found] == ["n1", "s1", "n3"]
    assert (replaced, without) == ((Replacement("n2", "s1"),), ())


def test_a_spare_must_have_as_many_slots_and_lends_no_more() -> None:
    found, replaced, without = substitute(hosts(n1=2, n2=4), {"n2"}, hosts(small=2, big=8))
    assert [(host.name, host.slots) for host in found] == [("n1", (0, 1)), ("big", (0, 1, 2, 3))]
    assert (replaced, without) == ((Replacement("n2", "big"),), ())
    assert substitute(hosts(n1=2, n2=4), {"n2"}, hosts(small=2))[2] == ("n2",)


def test_an_unusable_spare_helps_nobody_and_one_helps_one_host_only() -> None:
    found, _, without = substitute(hosts(n1=1, n2=1), {"n1", "n2", "s1"}, hosts(s1=1, s2=1))
    assert ([host.name for host in found], without) == (["s2", "n2"], ("n2",))


def test_what_points_to_the_machine() -> None:
    assert blames_hardware("RuntimeError: CUDA error: uncorrectable ECC error encountered")
    assert not blames_hardware("ValueError: boom")
