"""The installed DeepSpeed decides: same hostfiles accepted, same hosts and slots selected."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from clusterctl.errors import UsageError
from clusterctl.inventory.hostfile import parse
from clusterctl.inventory.model import Inventory
from clusterctl.inventory.select import select

pytestmark = pytest.mark.training

Pool = dict[str, int]


class _Theirs:
    parse: Callable[[list[str]], Pool]
    select: Callable[[Pool, str, str], dict[str, list[int]]]


@pytest.fixture(scope="module")
def theirs() -> _Theirs:
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    runner: Any = pytest.importorskip("deepspeed.launcher.runner")
    logging.getLogger("DeepSpeed").setLevel(logging.CRITICAL)
    found = _Theirs()
    found.parse = runner._parse_hostfile
    found.select = runner.parse_inclusion_exclusion
    return found


NAMES = st.sampled_from(["gpu1", "gpu2", "gpu3", "node-01", "10.0.0.7", "a.b.example", "x"])
SPACES = st.sampled_from([" ", "  ", "\t", ""])
TAILS = st.sampled_from(["", " # spare", "#c", " max_slots=8", "x", " gpu9 slots=2", ".5", "\r"])
VALID = st.builds(
    lambda name, space, slots, tail: f"{name}{space or ' '}slots={slots}{tail}",
    NAMES, SPACES, st.integers(0, 9), TAILS,
)  # fmt: skip
OTHER = st.sampled_from(["", "   ", "# comment", "  # indented", "gpu4", "slots=4", "gpu5 slots = 4"])
LINES = st.lists(st.one_of(VALID, VALID, VALID, OTHER), max_size=6)
# Everything but a byte order mark, which differs on purpose and has a test of its own.
SIGNS = st.characters(exclude_characters="\ufeff", exclude_categories=["Cs"])


@st.composite
def texts(draw: st.DrawFn) -> str:
    """Mostly good hostfiles; some with a character removed, replaced or put in."""
    text = "\n".join(draw(LINES)) + draw(st.sampled_from(["", "\n"]))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(text)))
        gone = draw(st.integers(0, 1))
        text = (
            text[:at] + draw(st.one_of(st.just(""), st.sampled_from("= \t#s4:\n"), SIGNS)) + text[at + gone :]
        )
    return text


@settings(max_examples=400, deadline=None)
@given(text=texts())
def test_the_same_hostfiles_are_read_the_same(theirs: _Theirs, text: str) -> None:
    # What Python's text files yield, which is what DeepSpeed is given.
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    try:
        expected = theirs.parse(lines)
    except ValueError:
        with pytest.raises(UsageError):
            parse(text, "lab")
        return
    assume(max(expected.values()) <= 65_536)
    assert {host.name: host.declared_slots for host in parse(text, "lab").hosts} == expected


FILTER_NAMES = st.sampled_from(["gpu1", "gpu2", "gpu3", "node-01", "10.0.0.7", "gpu", "", "zebra"])
SLOTS = st.sampled_from(["0", "1", "2", "7", "0,1", "1,0,1", " 1", "+1", "-1", "", "x", "0-1", "0,", "1_0"])
SPECS = st.one_of(FILTER_NAMES, st.builds("{}:{}".format, FILTER_NAMES, SLOTS))
FILTERS = st.one_of(
    st.just(""),
    st.lists(SPECS, min_size=1, max_size=4).map("@".join),
    st.text("gpu123node-0:,@ ", max_size=12),
)


@settings(max_examples=600, deadline=None)
@given(
    pool=st.dictionaries(NAMES, st.integers(0, 4), min_size=1, max_size=5), include=FILTERS, exclude=FILTERS
)
def test_the_same_hosts_and_slots_are_selected(
    theirs: _Theirs, pool: Pool, include: str, exclude: str
) -> None:
    inventory: Inventory = parse("".join(f"{name} slots={n}\n" for name, n in pool.items()), "lab")
    try:
        expected = theirs.select(pool, include, exclude)
    except ValueError:
        expected = {}
    # DeepSpeed starts a node without a process on a host without slots; here it takes no part.
    expected = {host: slots for host, slots in expected.items() if slots}
    # DeepSpeed goes on with an empty selection and crashes later; here it is an error.
    if not expected:
        with pytest.raises(UsageError):
            select(inventory, include=include, exclude=exclude)
        return
    got = select(inventory, include=include, exclude=exclude)
    assert {host.name: list(host.slots) for host in got.hosts} == expected
    assert list(got.names) == list(expected)
