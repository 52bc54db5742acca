"""--include, --exclude, --nodes, --gpus-per-node."""

from __future__ import annotations

import pytest

from clusterctl.errors import UsageError
from clusterctl.inventory.hostfile import parse
from clusterctl.inventory.select import select

LAB = parse("gpu01 slots=4\nalice@gpu02 slots=2\ngpu03 slots=4\n10.0.0.9:22 slots=1\n", "hostfiles/lab")


def chosen(**options: object) -> dict[str, tuple[int, ...]]:
    return {host.name: host.slots for host in select(LAB, **options).hosts}  # type: ignore[arg-type]


def test_nothing_asked_is_everything() -> None:
    assert select(LAB) == LAB


def test_include_keeps_hostfile_order_and_sorts_slots() -> None:
    assert chosen(include="gpu03@gpu01:2,0,2") == {"gpu01": (0, 2), "gpu03": (0, 1, 2, 3)}


def test_a_name_with_an_at_sign_is_taken_whole() -> None:
    assert chosen(include="alice@gpu02:1@gpu01:0") == {"gpu01": (0,), "alice@gpu02": (1,)}
    assert "alice@gpu02" not in chosen(exclude="gpu01:0@alice@gpu02")


def test_a_name_with_a_colon_can_be_chosen() -> None:
    assert chosen(include="10.0.0.9:22") == {"10.0.0.9:22": (0,)}
    assert chosen(include="10.0.0.9:22:0") == {"10.0.0.9:22": (0,)}


def test_a_range_names_several_hosts() -> None:
    assert list(chosen(include="gpu[01,03]:0")) == ["gpu01", "gpu03"]


def test_excluding_all_slots_drops_the_host() -> None:
    assert chosen(exclude="gpu01:0,1,2,3@gpu03:3") == {
        "alice@gpu02": (0, 1),
        "gpu03": (0, 1, 2),
        "10.0.0.9:22": (0,),
    }


def test_counts_follow_the_filter() -> None:
    assert chosen(exclude="gpu01:0", nodes=1, gpus_per_node=2) == {"gpu01": (1, 2)}


def test_declared_slots_are_kept_for_messages() -> None:
    assert select(LAB, include="gpu01:3").hosts[0].declared_slots == 4


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        ({"include": "gpu01", "exclude": "gpu03"}, "both", "one of them"),
        (
            {"include": "gpu1"},
            "'gpu1' is not in hostfiles/lab",
            "did you mean 'gpu01' (hostfiles/lab line 1)?",
        ),
        ({"include": "zebra"}, "'zebra'", "gpu[01,03]"),
        ({"include": "gpu01,gpu03"}, "'gpu01,gpu03'", "join hosts with @"),
        ({"include": "gpu01:4"}, "no slot 4", "line 1 gives it slots 0 to 3"),
        ({"include": "gpu01:0-2"}, "'gpu01:0-2'", "single numbers"),
        ({"include": "gpu01:"}, "'gpu01:'", "single numbers"),
        ({"include": "gpu01@"}, "''", ""),
        ({"exclude": "gpu01@alice@gpu02@gpu03@10.0.0.9:22"}, "no slot", "4 hosts"),
        ({"nodes": 5}, "hostfiles/lab has 4 hosts", "--nodes 4"),
        ({"nodes": 2, "include": "gpu01"}, "leave 1 host", "--nodes 1"),
        ({"nodes": 0}, "--nodes 0", ""),
        ({"gpus_per_node": 3}, "'alice@gpu02' has 2 slots (hostfiles/lab line 2)", "--gpus-per-node 2"),
        ({"gpus_per_node": 0}, "--gpus-per-node 0", ""),
    ],
)
def test_what_cannot_be_selected(options: dict[str, object], message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        chosen(**options)
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_a_host_without_slots_takes_no_part() -> None:
    lab = parse("head slots=0\ngpu01 slots=2\ngpu02 slots=2\n", "lab")
    assert select(lab).names == ("gpu01", "gpu02")
    assert select(lab, nodes=2, gpus_per_node=1).names == ("gpu01", "gpu02")
    assert select(lab, include="head@gpu01").names == ("gpu01",)
    assert [warning.where for warning in lab.warnings] == ["lab line 1"]
    for text, include in (("head slots=0\n", ""), ("head slots=0\na slots=1\n", "head")):
        with pytest.raises(UsageError):
            select(parse(text, "lab"), include=include)
