from __future__ import annotations

import pytest

from clusterctl.checks.consistency import deviations, release, satisfies, unlike


@pytest.mark.parametrize(
    ("version", "wanted", "fits"),
    [
        ("3.11.7", "3.11", True),
        ("3.11.7", "3.1", False),
        ("2.5.1+cu124", "2.5.1", True),
        ("2.5.1+cu124", "2.5.1+cu124", True),
        ("2.5.1+cu121", "2.5.1+cu124", False),
        ("2.5.1", "2.5.1+cu124", False),
    ],
)
def test_a_version_satisfies_a_shorter_one(version: str, wanted: str, fits: bool) -> None:
    assert satisfies(version, wanted) is fits


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("2.21.5+cuda12", (2, 21, 5)),
        ("6.1.0-18-amd64", (6, 1, 0)),
        ("5.4rc1.2", (5, 4)),
        ("", ()),
        ("dev", ()),
    ],
)
def test_the_numbers_that_lead_a_version(text: str, numbers: tuple[int, ...]) -> None:
    assert release(text) == numbers


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
