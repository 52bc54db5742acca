"""What a host sent must not steer the terminal of who reads it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterctl.report.harmless import harmless, plain_lines, plain_output


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("NVIDIA A100", "NVIDIA A100"),
        ("größer\tals\n10 µs", "größer\tals\n10 µs"),
        ("\x1b]0;owned\x07\x1b[2J", "\\x1b]0;owned\\x07\\x1b[2J"),
        ("\x9b2J", "\\x9b2J"),
        ("one\r\ntwo\rthree", "one\ntwo\\x0dthree"),
        ("user\u202egpj.exe", "user\\u202egpj.exe"),
        ("\udcff", "\\udcff"),
    ],
)
def test_what_steers_is_written_out(text: str, shown: str) -> None:
    assert harmless(text) == shown


@pytest.mark.parametrize(
    ("line", "coloured", "plain"),
    [
        (b"loss 3.1", "loss 3.1", "loss 3.1"),
        (b"\x1b[1;31mred", "\x1b[1;31mred\x1b[0m", "red"),
        (b"a\x1b[2Jb\x1b[Hc\x1b[10;5Hd", "abcd", "abcd"),
        (b"a\x1b]0;owned\x07b\x1b]8;;http://x\x1b\\c", "abc", "abc"),
        (b"a\x1bP1$r\x1b\\b\x1bcd\x1b(0e", "abde", "abde"),
        (b"title\x1b]0;without an end", "title", "title"),
        (b"a\xc2\x9b2Jb \x9b2Jc", "ab \ufffd2Jc", "ab \ufffd2Jc"),
        ("bidi \u202eabc".encode(), "bidi \\u202eabc", "bidi \\u202eabc"),
        ("schön \U0001f44d".encode(), "schön \U0001f44d", "schön \U0001f44d"),
        (b"over\x08\x08wr\x07ite", "overwrite", "overwrite"),
    ],
)
def test_of_a_ranks_own_sequences_only_colours_stay(line: bytes, coloured: str, plain: str) -> None:
    assert plain_output(line, colours=True) == coloured
    assert plain_output(line, colours=False) == plain


@given(st.binary(max_size=60))
def test_no_bytes_steer(line: bytes) -> None:
    line = line.replace(b"\n", b"")
    text = plain_output(line, colours=False)
    assert not [char for char in text if char != "\t" and (ord(char) < 32 or 127 <= ord(char) < 160)]


@given(st.text(max_size=60))
def test_no_text_steers(text: str) -> None:
    shown = harmless(text)
    assert not [char for char in shown if char not in "\t\n" and (ord(char) < 32 or 127 <= ord(char) < 160)]
    assert harmless(shown) == shown


def test_what_a_program_printed_is_shown_in_its_last_state() -> None:
    data = b"\x1b]0;owned\x07one\r\n 10%\r 20%\r\n\x1b[31mred"
    assert plain_lines(data, colours=False) == "one\n 20%\nred"
