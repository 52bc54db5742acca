from __future__ import annotations

from itertools import permutations

import pytest

from clusterctl.network.attribution import Blame, attribute

FOUR = "abcd"
ALL = frozenset(permutations(FOUR, 2))


def into(*hosts: str) -> set[tuple[str, str]]:
    return {edge for edge in ALL if edge[1] in hosts}


def out_of(*hosts: str) -> set[tuple[str, str]]:
    return {edge for edge in ALL if edge[0] in hosts}


Edges = set[tuple[str, str]]
CASES: dict[str, tuple[Edges, list[tuple[str, str, str | None]]]] = {
    "nothing": (set(), []),
    "one inbound": (into("c"), [("inbound", "c", "abd")]),
    "one outbound": (out_of("c"), [("outbound", "c", "abd")]),
    "three of four inbound": (into("a", "b", "c"), [("inbound", h, None) for h in "abc"]),
    "one cut off": (into("b") | out_of("b"), [("both", "b", "acd")]),
    "one path": ({("a", "b")}, [("pair", "b", "a")]),
    "one cut off and one path": (
        into("b") | out_of("b") | {("c", "d")},
        [("both", "b", "acd"), ("pair", "d", "c")],
    ),
    "two halves": (
        into("a", "b") & out_of("c", "d") | into("c", "d") & out_of("a", "b"),
        [("between", "cd", "ab")],
    ),
    "a half that the other does not let in": (
        into("c", "d") & out_of("a", "b"),
        [("inbound", "c", "ab"), ("inbound", "d", "ab")],
    ),
    "everything": (set(ALL), [("all", "abcd", "abcd")]),
    "one is not let in, another not out": (
        into("a") | out_of("b"),
        [("inbound", "a", "bcd"), ("outbound", "b", "acd")],
    ),
    "most of the inbound": (into("c") - {("a", "c")}, [("inbound", "c", "bd")]),
}


@pytest.mark.parametrize("case", CASES)
def test_the_fewest_culprits_that_explain_it(case: str) -> None:
    bad, expected = CASES[case]
    found = [
        (blame.side, "".join(blame.hosts), "".join(blame.peers) if peers else None)
        for blame, (*_, peers) in zip(attribute(bad, ALL), expected, strict=True)
    ]
    assert found == expected


def test_of_two_hosts_the_listener_is_asked_first() -> None:
    both = {("a", "b"), ("b", "a")}
    assert attribute({("a", "b")}, both) == (Blame("inbound", ("b",), ("a",)),)
    assert attribute(both, both) == (Blame("all", ("a", "b"), ("a", "b")),)


def test_of_three_hosts_two_firewalls_are_found() -> None:
    """a lets nobody in, b lets nobody out: with so few paths every side that is wholly bad counts."""
    asked = frozenset(permutations("abc", 2))
    bad = {("b", "a"), ("c", "a"), ("b", "c")}
    found = [(blame.side, *blame.hosts) for blame in attribute(bad, asked)]
    assert found == [("inbound", "a"), ("outbound", "b")]
