"""Where in a command line the cursor stands, and so what may come there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from clusterctl.cli.completing.grammar import Grammar, Option, Verb


class Position(NamedTuple):
    """What the word at the cursor is to be. ``metavar`` of a value, as help has it; a verb or the name of an
    option otherwise, from ``choices``. ``before``: what of the word stands before that, ``--hostfile=``."""

    verb: str
    begun: str
    before: str = ""
    metavar: str = ""
    option: str = ""
    choices: tuple[tuple[str, str], ...] = ()
    given: tuple[tuple[str, str], ...] = ()
    """Options so far that take a value, by the first of their names,"""
    arguments: tuple[str, ...] = ()
    """and arguments of the verb."""

    def value_of(self, option: str) -> str:
        return next((value for name, value in reversed(self.given) if name == option), "")


def position(grammar: Grammar, words: Sequence[str], begun: str) -> Position:
    """``words`` are those behind the program's name, as far as they are whole."""
    name, left = _verb(grammar, words)
    inner = {
        other: verb.help
        for other, verb in grammar.items()
        if other and other.rpartition(" ")[0] == name and not left
    }
    if inner and not begun.startswith("-"):
        choices = tuple((other.rpartition(" ")[2], said) for other, said in inner.items())
        return Position(name, begun, choices=_beginning(choices, begun))
    if not name and left:  # no verb of ours
        return Position(name, begun)
    return _within(name, grammar[name], left, begun)


def _verb(grammar: Grammar, words: Sequence[str]) -> tuple[str, Sequence[str]]:
    name = ""
    for at, word in enumerate(words):
        longer = f"{name} {word}".strip()
        if longer in grammar:
            name = longer
        elif not (name == "" and word.startswith("-")):
            return name, words[at:]
    return name, ()


def _within(name: str, verb: Verb, words: Sequence[str], begun: str) -> Position:
    given: list[tuple[str, str]] = []
    arguments: list[str] = []
    used: list[Option] = []
    awaiting: Option | None = None
    bare = False
    for word in words:
        if awaiting is not None:
            given.append((awaiting.names[0], word))
            awaiting = None
        elif bare or word == "-" or not word.startswith("-"):
            arguments.append(word)
            bare = bare or not verb.mixed
        elif word == "--":
            bare = True
        else:
            spelled, value = _split(word)
            option = verb.option(spelled)
            if option is not None:
                used.append(option)
                if option.metavar and value is None:
                    awaiting = option
                elif option.metavar and value is not None:
                    given.append((option.names[0], value))
    found = Position(name, begun, given=tuple(given), arguments=tuple(arguments))
    if awaiting is not None:
        return _value(found, awaiting)
    if not bare and begun.startswith("--") and "=" in begun:
        spelled, _, value = begun.partition("=")
        option = verb.option(spelled)
        return _value(found._replace(begun=value, before=f"{spelled}="), option) if option else found
    at = min(len(arguments), len(verb.arguments) - 1) if verb.rest else len(arguments)
    if not bare and (begun.startswith("-") or at >= len(verb.arguments)):
        return found._replace(choices=_beginning(_options(verb, used, begun), begun))
    return found._replace(metavar=verb.arguments[at]) if at < len(verb.arguments) else found


def _split(word: str) -> tuple[str, str | None]:
    if word.startswith("--"):
        name, equals, value = word.partition("=")
        return name, value if equals else None
    return word[:2], word[2:] or None


def _value(found: Position, option: Option) -> Position:
    choices = tuple((choice, "") for choice in option.choices)
    return found._replace(
        metavar="" if choices else option.metavar,
        option=option.names[0],
        choices=_beginning(choices, found.begun),
    )


def _options(verb: Verb, used: Sequence[Option], begun: str) -> tuple[tuple[str, str], ...]:
    """Of each the name that is shown first, and once somebody has begun to write another, that one."""
    left = [option for option in verb.options if option.many or option not in used]
    first = tuple((option.names[0], option.help) for option in left)
    return first if _beginning(first, begun) else tuple((name, o.help) for o in left for name in o.names)


def _beginning(choices: tuple[tuple[str, str], ...], begun: str) -> tuple[tuple[str, str], ...]:
    return tuple(each for each in choices if each[0].startswith(begun))
