"""Which logs somebody wants, and which lines of them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import pytest

from clusterctl.cli.options import moment
from clusterctl.errors import UsageError
from clusterctl.session.logs import Matching
from clusterctl.store.timed_logs import Piece


def matching(pattern: str, *parts: bytes) -> bytes:
    pieces: Iterator[Piece] = (Piece(0.0, None, "h0", "rank-0.log", part) for part in parts)
    return b"".join(piece.data for piece in Matching(pattern).among(pieces))


@pytest.mark.parametrize(
    ("pattern", "parts", "found"),
    [
        ("b", [b"a\nb\nc\n"], b"b\n"),
        ("^ab$", [b"x\na", b"b\nab", b"c\n"], b"ab\n"),
        ("end", [b"no e", b"nd"], b"no end"),
        ("20%", [b"\r10%\r20%\nx\n"], b"\r10%\r20%\n"),
        ("10%", [b"\r10%\r20%\nx\n"], b""),
        ("[\u00fc]", ["\u00fcber\nuber\n".encode()], "\u00fcber\n".encode()),
        ("\ufffd", [b"\xff\n\n"], b"\xff\n"),
        ("(?i)ERROR|nan", [b"an error\nok\nloss=nan\n"], b"an error\nloss=nan\n"),
        ("x", [b"", b"\n", b"x" * 10], b"x" * 10),
    ],
)
def test_lines_that_match_wherever_pieces_end(pattern: str, parts: list[bytes], found: bytes) -> None:
    assert matching(pattern, *parts) == found


def test_a_line_without_an_end_is_not_kept_whole() -> None:
    assert len(matching("x", *[b"x" * (1 << 16)] * 100)) == 100 << 16


def test_each_log_has_its_own_lines() -> None:
    pieces = [Piece(0.0, None, "h0", "rank-0.log", b"ab"), Piece(0.0, None, "h0", "rank-1.log", b"c\n")]
    pieces.append(Piece(0.0, None, "h0", "rank-0.log", b"c\n"))
    assert [piece.name for piece in Matching("abc").among(iter(pieces))] == ["rank-0.log"]


@pytest.mark.parametrize("pattern", ["[", "(?P<", "*", "a{99999999999}", "(" * 500 + ")" * 500 + "\\"])
def test_a_pattern_that_is_none_is_wrong_usage(pattern: str) -> None:
    with pytest.raises(UsageError, match="no regular expression"):
        Matching(pattern)


NOW = datetime(2026, 3, 4, 12, 0, 0).astimezone()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", "2026-03-04T11:58:30"),
        ("1h30m", "2026-03-04T10:30:00"),
        ("11:59", "2026-03-04T11:59:00"),
        ("12:01", "2026-03-03T12:01:00"),
        ("9:05:07", "2026-03-04T09:05:07"),
        ("2026-03-01", "2026-03-01T00:00:00"),
        ("2026-03-01T10:00:00.5", "2026-03-01T10:00:00.500000"),
    ],
)
def test_moments_as_people_write_them(text: str, expected: str) -> None:
    found = moment(text, "--since", NOW.timestamp())
    assert found == datetime.fromisoformat(expected).astimezone().timestamp()


def test_a_moment_elsewhere() -> None:
    assert moment("2026-03-01T10:00:00.5+02:00", "--since", 0.0) == moment(
        "2026-03-01T08:00:00.5Z", "--since", 0.0
    )


@pytest.mark.parametrize("text", ["25:00", "yesterday", "2026-13-01", "-5m", "0s", "12:60", "..", "1.2.3m"])
def test_what_is_no_moment(text: str) -> None:
    with pytest.raises(UsageError, match="--since"):
        moment(text, "--since", NOW.timestamp())
