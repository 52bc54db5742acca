"""Signatures in the text of tracebacks and logs. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from clusterctl.advise.signature import Role, Signature, Source, filled, quoted
from clusterctl.advise.signatures import SIGNATURES

_AROUND = 40
"""Lines before and after one in which `Signature.near` looks."""
_NEAR_THE_END = 60
"""So many lines before the end of a log can say why it ended."""
_MOST = 20
"""Sightings of one signature in one text: a log may say one thing a million times."""
_LONGEST = 4000
"""Of a line, so much is looked at."""
_RANK = re.compile(r"^\[(?:default|rank)\d+\]: ?")
_LINKS = ("direct cause of the following", "another exception occurred", "Original exception was")
_TRACEBACK = re.compile(r"^\s*Traceback \(most recent call last\):$")


class Excerpt(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of what was printed or raised, without what steers a terminal. ``first`` is the number of its
    first line in ``file``, None where nobody has counted. ``raised``: the text of an exception, not of a
    log."""

    text: str
    host: str = ""
    rank: int | None = None
    file: str = ""
    first: int | None = None
    raised: bool = False
    ends: bool = False
    """Whether the log ends with it."""


class Sighting(msgspec.Struct, frozen=True, kw_only=True):
    """One signature, where it was seen, and what it says there."""

    code: str
    role: Role
    means: str
    hint: str = ""
    host: str = ""
    rank: int | None = None
    file: str = ""
    line: int | None = None
    text: str = ""


def sightings(
    excerpt: Excerpt, known: Mapping[str, str], *, source: Source = "text", local_rank: bool = False
) -> list[tuple[int, Sighting]]:
    """(index of the line within the text, what was seen there), the most telling first: what explains
    itself before what confirms and what only follows, then as the table has it, then the later line."""
    lines = [_RANK.sub("", line)[:_LONGEST] for line in excerpt.text.split("\n")]
    told = [number for number, line in enumerate(lines) if line and not _is_frame(lines, number)]
    found: list[tuple[int, int, int, Sighting]] = []
    for rank, signature in enumerate(SIGNATURES):
        if signature.source != source or (signature.needs_local_rank and not local_rank):
            continue
        for number in _where(signature, excerpt.text, lines, told):
            groups = signature.found_in(lines[number])
            assert groups is not None
            around = "\n".join(lines[max(0, number - _AROUND) : number + _AROUND])
            if signature.is_near(around):
                seen = _sighting(signature, excerpt, lines[number], number, {**known, **groups})
                found.append((_WEIGHT[signature.role], rank, -number, seen))
    best: dict[int, Sighting] = {}
    for _, _, minus, seen in sorted(found, key=lambda each: each[:3]):
        best.setdefault(-minus, seen)
    return list(best.items())


def end_begins(lines: Sequence[str]) -> int:
    """The index of the line with which the end of a log begins: that of its last traceback, with those of the
    exceptions that led to it, where that ends near; else some lines before the last."""
    lines = [_RANK.sub("", line) for line in lines]
    near = max(0, len(lines) - _NEAR_THE_END)
    headers = [at for at, line in enumerate(lines) if _TRACEBACK.match(line)]
    if not headers:
        return near
    raised = (at for at in range(headers[-1] + 1, len(lines)) if lines[at] and not lines[at][0].isspace())
    if next(raised, len(lines)) < near:
        return near
    begun = headers.pop()
    while headers and any(link in " ".join(lines[max(0, begun - 2) : begun]) for link in _LINKS):
        begun = headers.pop()
    return begun


_WEIGHT: Mapping[Role, int] = {"root": 0, "confirmation": 1, "cascade": 2}


def _where(signature: Signature, text: str, lines: Sequence[str], told: Sequence[int]) -> Iterator[int]:
    if not any(sign in text for sign in signature.sign):  # nearly always
        return
    left = _MOST
    for number in reversed(told):
        if left and signature.found_in(lines[number]) is not None:
            left -= 1
            yield number


def _is_frame(lines: Sequence[str], number: int) -> bool:
    """Whether a line belongs to a frame of a traceback: code says nothing of what happened."""
    line = lines[number]
    if line.startswith('  File "'):
        return True
    return line.startswith("    ") and any(
        lines[before].startswith('  File "') for before in range(max(0, number - 3), number)
    )


def _sighting(
    signature: Signature, excerpt: Excerpt, line: str, number: int, known: Mapping[str, str]
) -> Sighting:
    return Sighting(
        code=signature.code,
        role=signature.role,
        means=filled(signature.means, known),
        hint=filled(signature.hint, quoted(known)),
        host=excerpt.host,
        rank=excerpt.rank,
        file=excerpt.file,
        line=None if excerpt.first is None else excerpt.first + number,
        text=line.strip(),
    )
