"""Many host names as one short text, and back: ``node[01-14,16]``. Zero padding is kept: 1 and 01 differ."""

from __future__ import annotations

import re
from collections.abc import Iterable

from clusterctl.errors import UsageError

_IPV4 = re.compile(r"(.*?)(\d+)()")
_NUMBERED = re.compile(r"([^.]*?)(\d+)(\D*?(?:\..*)?)")
_RANGE = re.compile(r"(\d+)(?:-(\d+))?")
_MOST = 65_536


def fold(names: Iterable[str]) -> str:
    """The names as ``node[01-14,16],login``: groups by first appearance, numbers ascending, each once."""
    unique = tuple(dict.fromkeys(names))
    padded = {
        (prefix, suffix, len(digits))
        for prefix, digits, suffix in map(_split, unique)
        if len(digits) > 1 and digits[0] == "0"
    }
    groups: dict[tuple[str, str, int], list[int]] = {}
    for name in unique:
        prefix, digits, suffix = _split(name)
        width = len(digits) if (prefix, suffix, len(digits)) in padded else 0
        numbers = groups.setdefault((prefix, suffix, width if digits else -1), [])
        if digits:
            numbers.append(int(digits))
    return ",".join(_group(*key, numbers) for key, numbers in groups.items())


def expand(text: str) -> tuple[str, ...]:
    """The names that ``gpu[1-4,7],login`` stands for, in that order. Raises UsageError on a bad range."""
    return tuple(
        name
        for part in re.split(r",(?![^\[]*\])", text)
        if part.strip()
        for name in _expand_one(part.strip())
    )


def _split(name: str) -> tuple[str, str, str]:
    """(prefix, digits, suffix): the last number of the first label, or of an IPv4 address."""
    user, at, host = name.rpartition("@")
    shape = _IPV4 if re.fullmatch(r"\d+(\.\d+){3}", host) else _NUMBERED
    found = shape.fullmatch(host)
    if found is None or "[" in name:
        return name, "", ""
    return user + at + found.group(1), found.group(2), found.group(3)


def _group(prefix: str, suffix: str, width: int, numbers: list[int]) -> str:
    if not numbers:
        return prefix + suffix
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    texts = [f"{a:0{max(width, 1)}d}" + (f"-{b:0{max(width, 1)}d}" if b > a else "") for a, b in runs]
    inner = texts[0] if len(numbers) == 1 else f"[{','.join(texts)}]"
    return f"{prefix}{inner}{suffix}"


def _expand_one(part: str) -> list[str]:
    opened = part.find("[")
    if opened < 0:
        return [part]
    prefix, (inner, closed, suffix) = part[:opened], part[opened + 1 :].partition("]")
    if not closed:
        raise UsageError(f"'{part}' opens a range with [ and does not close it", hint="write gpu[1-4]")
    middles: list[str] = []
    for piece in inner.split(","):
        bounds = _RANGE.fullmatch(piece.strip())
        if bounds is None:
            raise UsageError(f"'{piece}' in '{part}' is not a range of numbers", hint="write gpu[1-4,7]")
        first, last = bounds.group(1), bounds.group(2) or bounds.group(1)
        if int(last) < int(first):
            raise UsageError(f"the range '{piece}' in '{part}' runs backwards", hint="write gpu[1-4]")
        if int(last) - int(first) >= _MOST:
            raise UsageError(f"the range '{piece}' in '{part}' names more than {_MOST} hosts")
        middles += [f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)]
    return [prefix + middle + rest for middle in middles for rest in _expand_one(suffix)]
