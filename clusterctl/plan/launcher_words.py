"""The words of another launcher's command line, apart: its own flags, then the script and its words.

Pure. argparse is not used: it prints and exits, and knows nothing of flags that are refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec


class Flag(msgspec.Struct, frozen=True, kw_only=True):
    """One flag: ``name`` as its table spells it, ``value`` None for a switch, ``typed`` as it was given."""

    name: str
    value: str | None
    typed: str


class Syntax(msgspec.Struct, frozen=True, kw_only=True):
    """Flags by their full names, spelled with dashes. ``short`` maps one-letter names and other aliases.

    A launcher that has hundreds of flags is ``open``: those in no table are taken as they look.
    """

    valued: frozenset[str]
    switches: frozenset[str] = frozenset()
    short: Mapping[str, str] = {}
    open: bool = False


class UnknownFlagError(Exception):
    """A flag that is in no table: nobody knows whether a value follows. ``typed`` is as it was given."""

    def __init__(self, typed: str) -> None:
        super().__init__(typed)
        self.typed = typed


def split(words: Sequence[str], syntax: Syntax) -> tuple[tuple[Flag, ...], tuple[str, ...]]:
    """(flags, the script and everything after it), by argparse's rules: ``--a=b``, ``--a b``, ``-n4``, unique
    beginnings, ``_`` for ``-``. Raises UnknownFlagError."""
    flags: list[Flag] = []
    left = list(words)
    while left and left[0].startswith("-") and left[0] != "-":
        word = left.pop(0)
        if word == "--":
            break
        name, equals, value = word.partition("=")
        known = _known(name, syntax)
        if known is None and not name.startswith("--") and syntax.short.get(name[:2]) in syntax.valued:
            known, equals, value = syntax.short[name[:2]], "=", word[2:]
        if known is None:
            if not syntax.open:
                raise UnknownFlagError(word)
            known = name.replace("_", "-")
            takes_next = not equals and left and not left[0].startswith("-") and not left[0].endswith(".py")
        else:
            takes_next = known in syntax.valued and not equals and bool(left)
        if takes_next:
            value = left.pop(0)
            flags.append(Flag(name=known, value=value, typed=f"{word} {value}"))
        else:
            flags.append(Flag(name=known, value=value if equals else None, typed=word))
    return tuple(flags), tuple(left)


def _known(name: str, syntax: Syntax) -> str | None:
    if name in syntax.short:
        return syntax.short[name]
    spelled = name.replace("_", "-")
    everything = syntax.valued | syntax.switches
    if spelled in everything:
        return spelled
    alike = [each for each in everything if each.startswith(spelled)] if name.startswith("--") else []
    return alike[0] if len(alike) == 1 and len(spelled) > 2 else None
