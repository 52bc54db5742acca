from __future__ import annotations

from statistics import median_low

from clusterctl.checks.consistency import deviations, middle_of_others, unlike


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


def test_the_middle_of_the_others_is_their_lower_median() -> None:
    for values in ([3, 1], [5, 5, 1], [4, 2, 9, 2], [1, 2, 3, 4, 5], [7, 7, 7, 7]):
        by_host = {f"h{number}": float(value) for number, value in enumerate(values)}
        for host, middle in middle_of_others(by_host).items():
            assert middle == median_low(each for name, each in by_host.items() if name != host)
    assert middle_of_others({"alone": 1.0}) == {}
