"""Versions of hosts against what a profile wants."""

from __future__ import annotations

import pytest
from packaging.version import Version

from clusterctl.facts.versions import problem, satisfies, version


@pytest.mark.parametrize(
    ("told", "wanted", "fits"),
    [
        ("3.11.7", "3.11", True),
        ("3.11.7", "3.1", False),
        ("2.10.0", "2.1", False),
        ("2.5.1+cu124", "2.5.1", True),
        ("2.5.1+cu124", "2.5.1+cu124", True),
        ("2.5.1+cu121", "2.5.1+cu124", False),
        ("2.5.1", "2.5.1+cu124", False),
        ("2.6.0rc1", "2.6.0rc1", True),
        ("2.6.0rc2", "2.6.0rc1", False),
        ("550.054.14", "550", True),
        ("6.1.0-18-amd64", "6.1", True),
        ("6.1.0-18-amd64", "6.1.0-18-amd64", True),
        ("6.1.0-19-amd64", "6.1.0-18-amd64", False),
        ("none (a CPU build)", "12", False),
        ("2.13.0", "2.*", True),
        ("3.0.0", "2.*", False),
    ],
)
def test_a_plain_version_is_a_prefix(told: str, wanted: str, fits: bool) -> None:
    assert satisfies(told, wanted) is fits


@pytest.mark.parametrize(
    ("told", "wanted", "fits"),
    [
        ("2.13.0+cpu", ">=2.4,<3", True),
        ("2.13.0+cpu", "<=2.13.0", True),
        ("2.3.1", ">=2.4,<3", False),
        ("2.10.0", ">2.9", True),
        ("2.5.0a0+git1", ">=2.4", True),
        ("2.5.1", "~=2.5.0", True),
        ("2.5.1", "!=2.5.1", False),
        ("6.1.0-18-amd64", ">= 6.1, < 7", True),
        ("none (a CPU build)", ">=12", False),
    ],
)
def test_a_range_holds_or_does_not(told: str, wanted: str, fits: bool) -> None:
    assert satisfies(told, wanted) is fits


@pytest.mark.parametrize(
    "wanted",
    ["3.11", "2.5.1+cu124", "2.*", ">=2.4,<3", ">2.4,<2.5", "!=2.5.1", "==2.*", "~=2.5.0", "6.1.0-18-amd64"],
)
def test_what_can_be_wanted(wanted: str) -> None:
    assert problem(wanted) == ""


@pytest.mark.parametrize(
    "wanted", ["=>2.4", ">=2.x", "latest", ">=2.4 or 3", "", ">=3,<2", ">2,<2", "2.4 or newer", "2.4foo"]
)
def test_what_cannot_be_wanted_is_said(wanted: str) -> None:
    assert repr(wanted) in problem(wanted)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("2.21.5+cuda12", Version("2.21.5+cuda12")),
        ("6.1.0-18-amd64", Version("6.1.0")),
        ("5.15.0-1.el8", Version("5.15.0")),
        ("", None),
        ("dev", None),
    ],
)
def test_the_numbers_that_lead_a_text(text: str, numbers: Version | None) -> None:
    assert version(text) == numbers
