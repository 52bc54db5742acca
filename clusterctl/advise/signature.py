"""One failure as it is known by its text: where it stands among others, what it means, what to do. Pure."""

from __future__ import annotations

import functools
import re
import shlex
from collections.abc import Mapping
from typing import Literal

import msgspec

Role = Literal["root", "cascade", "confirmation"]
"""``root`` explains itself. ``cascade`` only follows from another failure: look there. ``confirmation`` is no
cause alone, but speaks for one."""

Source = Literal["text", "end"]
"""``text`` is what a rank raised or printed; ``end`` are clusterctl's own words for how it ended."""

_CLAUSE = re.compile(r"\[([^\[\]]*)\]")
_NAME = re.compile(r"\{(\w+)\}")
_LONGEST = 240


class Signature(msgspec.Struct, frozen=True, kw_only=True):
    """``sign`` is plain text, one of which the line holds; ``pattern`` a regular expression that the line
    matches as well, ``detail`` one that it may match: their named groups fill ``means`` and ``hint``.
    ``near``: what the lines around it must match, where the line alone could mean anything.

    ``means`` and ``hint`` are templates: ``{name}`` is a group or a fact of the run; a clause in brackets
    goes where a name in it is unknown.
    """

    code: str
    sign: tuple[str, ...]
    means: str
    hint: str = ""
    role: Role = "root"
    pattern: str = ""
    detail: str = ""
    near: str = ""
    source: Source = "text"
    needs_local_rank: bool = False
    """Only where the engine gives each rank an argument ``--local_rank``."""

    def found_in(self, line: str) -> dict[str, str] | None:
        """The named groups, where the line is of this kind. ``path2`` is another place for ``path``."""
        if not any(sign in line for sign in self.sign):
            return None
        found = _compiled(self.pattern).search(line)
        if found is None:
            return None
        detail = _compiled(self.detail).search(line)
        groups = found.groupdict() | (detail.groupdict() if detail else {})
        return {name.rstrip("0123456789"): value.strip() for name, value in groups.items() if value}

    def is_near(self, text: str) -> bool:
        return not self.near or _compiled(self.near).search(text) is not None


def filled(template: str, known: Mapping[str, str]) -> str:
    """The template with all it can say; a name that is unknown outside of a clause becomes ``?``."""

    def clause(found: re.Match[str]) -> str:
        return found[1] if all(name in known for name in _NAME.findall(found[1])) else ""

    return _NAME.sub(lambda found: known.get(found[1], "?")[:_LONGEST], _CLAUSE.sub(clause, template))


def quoted(known: Mapping[str, str]) -> dict[str, str]:
    """The same for a command that somebody will paste: what a host has printed is one word of it."""
    return {name: shlex.quote(value[:_LONGEST]) for name, value in known.items()}


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)
