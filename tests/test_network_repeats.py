"""What failed while everybody dialled is dialled again, alone, before anybody is blamed."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations

from clusterctl.facts.model import Dial
from clusterctl.network import repeats
from clusterctl.network.attribution import Edge

FOUR = ("a", "b", "c", "d")


def dial(source: str, target: str, result: str = "ok", *, port: int = 1, address: str = "") -> Dial:
    return Dial(
        source=source, target=target, address=address or target, port=port, kind="ephemeral", result=result
    )


def dials(failing: Callable[[str, str], bool], hosts: tuple[str, ...] = FOUR) -> tuple[Dial, ...]:
    return tuple(
        dial(source, target, "timeout" if failing(source, target) else "ok")
        for source, target in permutations(hosts, 2)
    )


def settle(first: tuple[Dial, ...], again: Callable[[Edge], str]) -> tuple[tuple[Dial, ...], list[set[Edge]]]:
    """All waves, each edge ending as ``again`` says; (the dials in the end, the waves)."""
    current, repeated = first, set[Edge]()
    waves: list[set[Edge]] = []
    while wave := repeats.next_wave(current, repeated):
        assert len(waves) < 100, "it never ends"
        waves.append(set(wave))
        made = [dial(*edge, again(edge)) for edge in wave]
        current = repeats.merged(current, made)
        repeated |= repeats.failed(made)
    return current, waves


def test_nothing_failed_nothing_is_repeated() -> None:
    assert repeats.next_wave(dials(lambda *_: False), set()) == ()


def test_what_failed_under_load_and_passes_alone_is_forgotten() -> None:
    first = dials(lambda source, target: target == "b" or source == "d")
    ended, _ = settle(first, lambda edge: "ok")
    assert {each.result for each in ended} == {"ok"}


def test_in_a_wave_no_host_is_in_two_dials() -> None:
    _, waves = settle(dials(lambda *_: True), lambda edge: "timeout")
    for wave in waves:
        ends = [host for edge in wave for host in edge]
        assert len(ends) == len(set(ends))


def test_a_culprit_is_believed_after_two_paths_failed_again() -> None:
    many = tuple(f"n{number}" for number in range(40))
    ended, waves = settle(dials(lambda _, target: target == "n7", many), lambda edge: "timeout")
    assert [len(wave) for wave in waves] == [1, 1]
    assert {each.target for each in ended if each.result == "timeout"} == {"n7"}
    assert repeats.unconfirmed(ended, set().union(*waves)) == set()


def test_a_failure_that_could_not_be_repeated_is_not_confirmed() -> None:
    first = dials(lambda source, target: target == "b")
    assert repeats.unconfirmed(first, set()) == {("a", "b"), ("c", "b"), ("d", "b")}
    assert repeats.unconfirmed(first, {("a", "b")}) == {("a", "b"), ("c", "b"), ("d", "b")}
    assert repeats.unconfirmed(first, {("a", "b"), ("c", "b")}) == set()
    alone = dials(lambda source, target: (source, target) == ("c", "d"))
    assert repeats.unconfirmed(alone, {("c", "d")}) == set()


def test_an_address_that_nobody_reaches_is_no_failure_where_the_host_has_another() -> None:
    dead = [dial(source, "b", "timeout", address="10.9.0.2") for source in ("a", "c")]
    alive = [dial(source, "b", address="10.0.0.2") for source in ("a", "c")]
    assert repeats.failed([*dead, *alive]) == set()
    assert repeats.failed(dead) == {("a", "b"), ("c", "b")}
    # From one host alone it may be the path: that is tried again.
    assert repeats.failed([dead[0], alive[0]]) == {("a", "b")}


def test_an_accepted_connection_without_an_answer_is_no_failure() -> None:
    assert repeats.failed([dial("a", "b", "connected"), dial("b", "a", "unsettled")]) == set()


def test_of_each_edge_two_dials_for_each_way_are_repeated() -> None:
    made = [dial("a", "b", result, port=port) for result in ("timeout", "refused", "ok") for port in range(5)]
    kept = repeats.worth_repeating([*made, dial("b", "a", "timeout")], [("a", "b")])
    assert [each.result for each in kept] == ["timeout", "timeout", "refused", "refused"]


def test_a_suspect_is_tried_by_three_others_both_ways() -> None:
    hosts = tuple(f"n{number}" for number in range(10))
    asked = {("n4", "n3"), ("n3", "n2")}
    found = repeats.others(hosts, "n3", asked, {"n3", "n5"})
    assert found == (("n6", "n3"), ("n3", "n6"), ("n7", "n3"), ("n3", "n7"), ("n8", "n3"), ("n3", "n8"))


def test_what_was_made_again_takes_the_place_of_the_earlier() -> None:
    first = [dial("a", "b", "timeout"), dial("a", "c")]
    assert repeats.merged(first, [dial("a", "b"), dial("d", "a")]) == (
        dial("a", "b"),
        dial("a", "c"),
        dial("d", "a"),
    )


def test_a_doubted_failure_keeps_what_is_known_of_it() -> None:
    doubted = repeats.unsettled(dial("a", "b", "timeout"), "and could not be repeated alone")
    assert (doubted.result, doubted.detail) == (
        "unsettled",
        "it failed once (timeout), and could not be repeated alone",
    )
