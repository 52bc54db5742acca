"""Logs that were longer than their limit, as they lie on this machine."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterctl.store.log_files import WHOLE, Cut, cut_of, cut_out, fingerprint, head_of, place_now

HEAD = head_of(1_000_000)


def nothing() -> None:
    return


def test_the_beginning_is_a_quarter_that_ends_with_a_block() -> None:
    assert HEAD == 3 * 65536
    assert head_of(0) == 0


def test_one_line_stands_for_what_was_cut_out(tmp_path: Path) -> None:
    log = bytes(range(256)) * 8192
    path = tmp_path / "rank-0.log"
    path.write_bytes(log)
    first, second = Cut(HEAD, 700_000), Cut(HEAD, 1_500_000)
    cut_out(path, WHOLE, first, nothing)
    assert cut_of(path, HEAD) == first
    cut_out(path, first, second, nothing)
    assert cut_of(path, HEAD) == second
    line = b"\n[clusterctl: bytes 196608 to 1500000 of this log were cut out: 1.3 MB, see --log-limit]\n"
    assert path.read_bytes() == log[:HEAD] + line + log[1_500_000:]
    assert second.size(path.stat().st_size) == len(log)
    whole = hashlib.sha256(log[:HEAD] + log[1_500_000:]).hexdigest()
    assert fingerprint(path, second, nothing) == (len(log), whole)
    assert list(tmp_path.iterdir()) == [path], "nothing else is left there"


def test_what_is_cut_beyond_the_end_leaves_the_beginning(tmp_path: Path) -> None:
    path = tmp_path / "rank-0.log"
    path.write_bytes(b"x" * 300_000)
    cut = Cut(HEAD, 900_000)
    cut_out(path, WHOLE, cut, nothing)
    assert path.read_bytes() == b"x" * HEAD + cut.line
    assert cut.size(path.stat().st_size) == 900_000
    with path.open("r+b") as stream:
        stream.seek(cut.place(900_000))
        stream.write(b"more")
    assert path.read_bytes() == b"x" * HEAD + cut.line + b"more"


@pytest.mark.parametrize(
    "line", [b"\n[clusterctl: bytes 196608 to 1 of this log were cut out]\n", b"x" * 90, b""]
)
def test_what_only_looks_like_the_line_is_none(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "rank-0.log"
    path.write_bytes(b"x" * HEAD + line)
    assert cut_of(path, HEAD) == WHOLE


def test_who_reads_on_goes_on_behind_what_has_been_cut_out_meanwhile() -> None:
    old, new = Cut(HEAD, 500_000), Cut(HEAD, 900_000)
    assert place_now(100, WHOLE, old) == 100
    assert place_now(400_000, WHOLE, old) == HEAD, "the line that says what is missing, and all after it"
    assert place_now(600_000, WHOLE, old) == old.place(600_000)
    assert place_now(old.place(950_000), old, new) == new.place(950_000)
    assert place_now(old.place(600_000), old, new) == HEAD
    assert place_now(HEAD, old, old) == HEAD
    assert place_now(HEAD + 10, old, old) == HEAD + 10


@given(st.integers(0, 10**13), st.integers(1, 10**13))
def test_places_and_sizes_fit(offset: int, more: int) -> None:
    cut = Cut(HEAD, HEAD + more)
    if offset >= cut.resume:
        assert cut.size(cut.place(offset)) == offset
