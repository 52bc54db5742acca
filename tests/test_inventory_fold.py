"""Folded host names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterctl.errors import UsageError
from clusterctl.inventory.fold import expand, fold

NAMES = st.builds(
    lambda prefix, number, width, suffix: f"{prefix}{number:0{width}d}{suffix}",
    st.sampled_from(["node", "gpu-", "rack2-n", "alice@gpu", "10.0.0.", ""]),
    st.integers(0, 120),
    st.integers(1, 3),
    st.sampled_from(["", ".lab", ".b2.example.org"]),
)


@pytest.mark.parametrize(
    ("names", "folded"),
    [
        ([f"node{n:02d}" for n in (*range(1, 15), 16)], "node[01-14,16]"),
        (["node15"], "node15"),
        (["node8", "node9", "node10"], "node[8-10]"),
        (["n1", "n01"], "n1,n01"),
        (["n08", "n09", "n10"], "n[08-10]"),
        (["10.0.0.1", "10.0.0.2"], "10.0.0.[1-2]"),
        (["gpu1.lab2", "gpu2.lab2"], "gpu[1-2].lab2"),
        (["alice@g1", "alice@g2", "g3"], "alice@g[1-2],g3"),
        (["login", "n1", "login"], "login,n1"),
        ([], ""),
    ],
)
def test_fold(names: list[str], folded: str) -> None:
    assert fold(names) == folded


@given(st.lists(NAMES, unique=True))
def test_expand_undoes_fold(names: list[str]) -> None:
    assert set(expand(fold(names))) == set(names)


def test_expand_keeps_padding_and_order() -> None:
    assert expand("b[2-3,1], a[08-10]x") == ("b2", "b3", "b1", "a08x", "a09x", "a10x")


@pytest.mark.parametrize("text", ["a[1-", "a[x]", "a[3-1]", "a[]", "a[1-9999999]"])
def test_bad_ranges_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        expand(text)
