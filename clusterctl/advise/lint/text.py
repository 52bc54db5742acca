"""A config as it is written: its values, the line of each, and what only some readers accept.

DeepSpeed reads files with hjson: comments, commas that are missing or too many, text without quotes.
transformers reads them with Python's json, which accepts none of that.
"""

from __future__ import annotations

import bisect
import json
import re
from typing import Any

import msgspec

Place = tuple[str | int, ...]
"""Where a value stands: ``("zero_optimization", "stage")``."""

_DEEPEST = 100
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?")
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\.)*"' + r"|'(?:[^'\\\x00-\x1f]|\\.)*'")
_BARE_KEY = re.compile(r"[^\s{}\[\],:]+(?=\s*:)")
_BARE_END = re.compile(r"[,}\]\r\n#]|//|/\*|$")
_WORDS = {"true": True, "false": False, "null": None}
_PUNCTUATION = "{}[],:"


class UnreadableError(ValueError):
    """The text is no config for anybody; ``line`` is where reading ended."""

    def __init__(self, line: int, why: str) -> None:
        super().__init__(why)
        self.line = line
        self.why = why


class Relaxed(msgspec.Struct, frozen=True):
    """Something that hjson accepts and JSON does not."""

    line: int
    what: str


class Duplicate(msgspec.Struct, frozen=True):
    """A key that stands a second time in one object."""

    place: Place
    line: int
    first: int


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """``data`` is what DeepSpeed's reader would make of it, the last of a duplicate key included."""

    data: dict[str, Any]
    lines: dict[Place, int]
    relaxed: tuple[Relaxed, ...] = ()
    duplicates: tuple[Duplicate, ...] = ()

    def line(self, place: Place) -> int:
        """The line of a value, or of the nearest that holds it."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 1)


def read(text: str) -> Document:
    """Raises UnreadableError."""
    return _Reader(text).document()


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text.removeprefix("\ufeff")
        self._at = 0
        self._newlines = [found.start() for found in re.finditer("\n", self._text)]
        self._lines: dict[Place, int] = {}
        self._relaxed: dict[str, Relaxed] = {}
        self._duplicates: list[Duplicate] = []

    def document(self) -> Document:
        self._space()
        if self._peek() == "{":
            self._at += 1
            data = self._members((), "}")
        elif self._peek() == "[":
            raise self._error("the file holds a list, not an object")
        else:
            self._note("an object without braces")
            data = self._members((), "")
        self._space()
        if self._at < len(self._text):
            raise self._error(f"{self._shown()} after the end of the object")
        if self._duplicates:
            self._lines = {place: line for place, line in self._lines.items() if _is_there(data, place)}
        return Document(
            data=data,
            lines=self._lines,
            relaxed=tuple(sorted(self._relaxed.values(), key=lambda each: each.line)),
            duplicates=tuple(self._duplicates),
        )

    def _members(self, place: Place, closing: str) -> dict[str, Any]:
        if len(place) > _DEEPEST:
            raise self._error("nested too deeply")
        found: dict[str, Any] = {}
        seen: dict[str, int] = {}
        while not self._closed(closing):
            line = self._line()
            key = self._key()
            inner = (*place, key)
            if key in seen:
                self._duplicates.append(Duplicate(inner, line, seen[key]))
            seen.setdefault(key, line)
            self._space()
            if self._peek() != ":":
                raise self._error(f'":" is missing after "{key}", there is {self._shown()}')
            self._at += 1
            self._lines[inner] = line
            found[key] = self._value(inner)
            self._comma(closing)
        return found

    def _list(self, place: Place) -> list[Any]:
        if len(place) > _DEEPEST:
            raise self._error("nested too deeply")
        found: list[Any] = []
        while not self._closed("]"):
            inner = (*place, len(found))
            self._lines[inner] = self._line()
            found.append(self._value(inner))
            self._comma("]")
        return found

    def _closed(self, closing: str) -> bool:
        self._space()
        if self._at >= len(self._text):
            if closing:
                raise self._error(f'the file ends before a "{closing}"')
            return True
        if closing and self._peek() == closing:
            self._at += 1
            return True
        return False

    def _comma(self, closing: str) -> None:
        self._space()
        if self._peek() == ",":
            line = self._line()
            self._at += 1
            self._space()
            if closing and self._peek() == closing:
                self._note("a comma after the last entry", line)
        elif self._at < len(self._text) and self._peek() != closing:
            self._note("a missing comma")

    def _key(self) -> str:
        if self._peek() in ('"', "'"):
            return self._string()
        found = _BARE_KEY.match(self._text, self._at)
        if found is None:
            raise self._error(f"a key is expected, there is {self._shown()}")
        self._note("a key without quotes")
        self._at = found.end()
        return found[0]

    def _value(self, place: Place) -> Any:
        self._space()
        start = self._peek()
        if start == "{":
            self._at += 1
            return self._members(place, "}")
        if start == "[":
            self._at += 1
            return self._list(place)
        if self._text.startswith("'''", self._at):
            return self._block()
        if start in ('"', "'"):
            return self._string()
        if not start or start in _PUNCTUATION:
            raise self._error(f"a value is expected, there is {self._shown()}")
        return self._bare()

    def _bare(self) -> Any:
        """A number or a word up to what may follow one; else text, which goes on to the end of its line."""
        end = _BARE_END.search(self._text, self._at)
        stop = end.start() if end is not None else len(self._text)
        word = self._text[self._at : stop].strip()
        number = _NUMBER.fullmatch(word)
        if word in _WORDS or number is not None:
            self._at = stop
            return _WORDS[word] if number is None else _number(word, whole=not (number[1] or number[2]))
        self._note("text without quotes")
        line_end = self._text.find("\n", self._at)
        stop = line_end if line_end >= 0 else len(self._text)
        word = self._text[self._at : stop].strip()
        self._at = stop
        return word

    def _string(self) -> str:
        found = _STRING.match(self._text, self._at)
        if found is None:
            raise self._error("a text whose quote is not closed on its line")
        self._at = found.end()
        if found[0][0] == "'":
            self._note("single quotes")
        inside = re.sub(r"\\(.)|\"", _as_json, found[0][1:-1], flags=re.DOTALL)
        try:
            return str(json.loads(f'"{inside}"'))
        except ValueError:
            raise self._error("a text with an escape that does not exist") from None

    def _block(self) -> str:
        end = self._text.find("'''", self._at + 3)
        if end < 0:
            raise self._error("a text over several lines that does not end")
        self._note("text without quotes")
        inside = self._text[self._at + 3 : end]
        self._at = end + 3
        return inside.strip()

    def _space(self) -> None:
        while self._at < len(self._text):
            if self._text[self._at].isspace():
                self._at += 1
            elif self._text[self._at] == "#" or self._text.startswith("//", self._at):
                self._note("a comment")
                end = self._text.find("\n", self._at)
                self._at = end if end >= 0 else len(self._text)
            elif self._text.startswith("/*", self._at):
                self._note("a comment")
                end = self._text.find("*/", self._at + 2)
                if end < 0:
                    raise self._error("a comment that does not end")
                self._at = end + 2
            else:
                return

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _line(self) -> int:
        return bisect.bisect_left(self._newlines, self._at) + 1

    def _note(self, what: str, line: int | None = None) -> None:
        self._relaxed.setdefault(what, Relaxed(line or self._line(), what))

    def _shown(self) -> str:
        return json.dumps(self._peek()) if self._peek() else "nothing"

    def _error(self, why: str) -> UnreadableError:
        return UnreadableError(self._line(), why)


def _is_there(data: Any, place: Place) -> bool:
    """Not in an object that a later one of the same key has replaced."""
    for key in place:
        if isinstance(key, int):
            if not isinstance(data, list) or key >= len(data):
                return False
        elif not isinstance(data, dict) or key not in data:
            return False
        data = data[key]
    return True


def _as_json(found: re.Match[str]) -> str:
    """An escape, or a quote without one, as JSON writes it: it has none for a single quote."""
    if found[1] == "'":
        return "'"
    return found[0] if found[1] else '\\"'


def _number(word: str, *, whole: bool) -> int | float:
    """As hjson: ``5e8`` is a whole number."""
    if whole:
        return int(word) if len(word) < 400 else float(word)
    value = float(word)
    return int(value) if abs(value) < 1e10 and int(value) == value else value
