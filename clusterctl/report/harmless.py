"""Text from a host, made fit for a terminal: nothing in it may move the cursor, clear the screen, set the
title or turn the direction of writing. Pure.
"""

from __future__ import annotations

import re

_STEERING = "\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_CONTROL = re.compile(f"[{_STEERING}]")
_SEQUENCE = re.compile(
    "(?P<colour>\x1b\\[[0-9;:]*m)"
    # Operating system commands and their like: up to their end, or that of the line.
    "|(?:\x1b[\\]P_^X]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\\\|\x9c)?"
    "|(?:\x1b\\[|\x9b)[0-?]*[ -/]*[@-~]?"
    "|\x1b[ -/]*[0-~]?"
    f"|[{_STEERING}]"
)
_SUSPECT = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f-\xff]")
_INNOCENT = bytes(each for each in range(256) if not _SUSPECT.match(bytes((each,))))
_RESET = "\x1b[0m"


def harmless(text: str) -> str:
    """``text`` with every character that steers a terminal written out: ``\\x1b[2J`` as seven characters.

    Ends of lines and tabs stay; a carriage return before an end of line goes.
    """
    if text.isascii() and text.isprintable():
        return text
    return _CONTROL.sub(_written_out, text.replace("\r\n", "\n"))


def plain_output(line: bytes, *, colours: bool) -> str:
    """One line that a program printed, without what steers a terminal.

    With ``colours`` the program's own stay, and end with the line. Bytes that are not UTF-8 become U+FFFD.
    """
    if not _SUSPECT.search(line):
        return line.decode("ascii")
    coloured = False

    def keep(found: re.Match[str]) -> str:
        nonlocal coloured
        if found["colour"] is None or not colours:
            return _written_out(found) if found[0] in _TURNING else ""
        coloured = True
        return found[0]

    text = _SEQUENCE.sub(keep, line.decode("utf-8", "replace"))
    return text + _RESET if coloured else text


def is_plain(data: bytes) -> bool:
    """Whether `plain_output` would leave each line as it is. For floods: one look at many lines."""
    if not data.translate(None, _INNOCENT):  # a tenth of what the expression costs
        return True
    try:
        return _CONTROL.search(data.decode("utf-8")) is None
    except UnicodeDecodeError:
        return False


def plain_lines(data: bytes, *, colours: bool) -> str:
    """All that a program printed, line by line as `plain_output`; rewritten lines in their last state."""
    return "\n".join(plain_output(last_state(line), colours=colours) for line in data.split(b"\n"))


def last_state(line: bytes) -> bytes:
    """What a terminal would show of a line that carriage returns rewrote."""
    return line.rstrip(b"\r").rpartition(b"\r")[2]


_TURNING = frozenset("\u061c\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def _written_out(found: re.Match[str]) -> str:
    return (
        found[0].encode("ascii", "backslashreplace").decode()
        if ord(found[0]) > 127
        else f"\\x{ord(found[0]):02x}"
    )
