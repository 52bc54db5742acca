"""Which rules are asked: all, some (``--only``), or all but those that somebody answers for (``--skip``)."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

import msgspec

from clusterctl.checks.families import RULES
from clusterctl.errors import UsageError


class Selection(msgspec.Struct, frozen=True):
    """``only`` and the keys of ``skip`` are codes, or the family before the dot; an empty ``only`` is all.
    ``skip`` maps to the reason that somebody gave."""

    only: tuple[str, ...] = ()
    skip: dict[str, str] = {}

    def left_out(self, code: str) -> str:
        """Why this rule is not asked; "" where it is."""
        for name, reason in self.skip.items():
            if _covers(name, code):
                return f"{reason} (--skip)"
        if self.only and not any(_covers(name, code) for name in self.only):
            return "not asked for (--only)"
        return ""


EVERY_RULE = Selection()


def read(only: Iterable[str] = (), skip: Iterable[str] = ()) -> Selection:
    """``only``: codes or families, also several with commas. ``skip``: ``CODE=REASON``.

    Raises UsageError for a code that does not exist and for a skip without a reason.
    """
    wanted = tuple(part.strip() for text in only for part in text.split(",") if part.strip())
    reasons: dict[str, str] = {}
    for text in skip:
        code, _, reason = text.partition("=")
        if not reason.strip():
            raise UsageError(f"--skip {code}: no reason given", hint=f"--skip {code}='known, ticket 12'")
        reasons[code.strip()] = reason.strip()
    for name in (*wanted, *reasons):
        if not any(_covers(name, rule.code) for rule in RULES):
            raise UsageError(f"no check is called {name!r}", hint=_nearest(name))
    return Selection(wanted, reasons)


def _covers(name: str, code: str) -> bool:
    return code == name or code.startswith(f"{name}.")


def _nearest(name: str) -> str:
    codes = [rule.code for rule in RULES]
    close = get_close_matches(name, [*codes, *{code.partition(".")[0] for code in codes}], 3)
    return f"did you mean {' or '.join(close)}?" if close else "`clusterctl checks` lists them"
