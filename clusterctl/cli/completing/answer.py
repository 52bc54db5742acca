"""The answer to one press of TAB. Whatever goes wrong, it is no answer and no word on the terminal."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence

from clusterctl.cli.completing import ASKED
from clusterctl.cli.completing.position import position
from clusterctl.cli.completing.values import Offer, offer

_LONGEST = 3
"""Seconds: a hostfile may lie on a file server that does not answer."""


def answer(environ: Mapping[str, str], arguments: Sequence[str]) -> None:
    """Print it, for the script of `scripts`."""
    signal.alarm(_LONGEST)  # which ends this process without a word
    sys.stdout.buffer.write("\n".join(lines(environ, arguments)).encode("utf-8", "replace") + b"\n")
    sys.stdout.buffer.flush()


def lines(environ: Mapping[str, str], arguments: Sequence[str]) -> list[str]:
    """What kind of words, then each with what it means."""
    found, cut = Offer("words"), 0
    with contextlib.suppress(Exception):  # the shell offers nothing then, and that is all
        found, cut = _found(environ, arguments)
    return [found.kind, *_lines(environ[ASKED], found, cut)]


def _found(environ: Mapping[str, str], arguments: Sequence[str]) -> tuple[Offer, int]:
    """And how much of each word the shell takes for one that is typed already."""
    from clusterctl.cli.completing.grammar import grammar

    if environ[ASKED] == "bash":
        words, cut = _words_of_bash(environ)
    else:
        words, cut = list(arguments), 0
    at = position(grammar(), words[:-1], words[-1])
    found = offer(at)
    return found._replace(words=tuple((at.before + word, said) for word, said in found.words)), cut


def _words_of_bash(environ: Mapping[str, str]) -> tuple[list[str], int]:
    """bash divides at `:` and `=`, too, and puts what it is told behind the last of them."""
    line = os.fsencode(environ["COMP_LINE"])[: int(environ["COMP_POINT"])].decode("utf-8", "replace")
    words = list(_words(line))[1:] or [""]
    last = max((words[-1].rfind(each) for each in environ.get("COMP_WORDBREAKS", "")), default=-1)
    return words, last + 1


def _words(line: str) -> Iterator[str]:
    """As a shell would divide it; the last is empty behind a blank, and may lack the end of its quotes."""
    word, quote, begun = "", "", False
    letters = iter(line)
    for letter in letters:
        if letter == "\\" and quote != "'":
            word, begun = word + next(letters, ""), True
        elif quote:
            quote, word = ("", word) if letter == quote else (quote, word + letter)
        elif letter in "'\"":
            quote, begun = letter, True
        elif letter.isspace():
            if begun:
                yield word
            word, begun = "", False
        else:
            word, begun = word + letter, True
    yield word


def _lines(shell: str, found: Offer, cut: int) -> Iterator[str]:
    for word, said in found.words:
        said = " ".join("".join(each if each.isprintable() else " " for each in said).split())[:100]
        if shell == "bash":
            yield word[cut:]
        elif shell == "zsh":
            word = word.replace(":", "\\:")
            yield f"{word}:{said}" if said else word
        else:
            yield f"{word}\t{said}" if said else word
