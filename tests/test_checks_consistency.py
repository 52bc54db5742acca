from __future__ import annotations

from clusterctl.checks.consistency import deviations, unlike


def test_each_deviating_value_is_one_hit() -> None:
    values = {"a": "1", "b": "1", "c": "1", "d": "2", "e": "3", "f": "2"}
    assert [(hit.hosts, hit.observed) for hit in deviations(values)] == [(("d", "f"), "2"), (("e",), "3")]


def test_equal_values_and_none_at_all_are_silent() -> None:
    assert list(deviations({"a": "1", "b": "1"})) == []
    assert list(deviations({})) == []
    assert list(unlike({"a": "1.2"}, "1")) == []


def test_a_tie_accuses_nobody_in_particular() -> None:
    (hit,) = deviations({"a": "1", "b": "2"}, of="thing")
    assert (hit.hosts, hit.observed) == (("a", "b"), "thing a: 1; b: 2")
