"""Versions as hosts tell them, and the ranges (PEP 440) that a profile asks for."""

from __future__ import annotations

import re

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

_NUMBERS = re.compile(r"\d+(\.\d+)*")
_RELEASE = re.compile(r"\d+(\.\d+)+-[\w.+~-]+")
"""A kernel's, which is held against the host's own word for word."""
_RANGE = re.compile(r"\s*[<>=!~]")


def version(text: str) -> Version | None:
    """``text`` as a version; of a kernel's ``6.1.0-18-amd64`` the numbers that lead it. None without any."""
    try:
        return Version(text)
    except InvalidVersion:
        numbers = _NUMBERS.match(text)
        return Version(numbers[0]) if numbers else None


def is_range(wanted: str) -> bool:
    """Whether ``wanted`` is a range such as ``>=2.4,<3``, and not a plain version."""
    return bool(_RANGE.match(wanted))


def problem(wanted: str) -> str:
    """Why no version could ever be held against ``wanted``; "" where it is a version or a range of them."""
    if is_range(wanted):
        try:
            asked = SpecifierSet(wanted)
        except InvalidSpecifier:
            return f"invalid version range {wanted!r}"
        return "" if _is_possible(asked) else f"no version is in the range {wanted!r}"
    return "" if _plain(wanted) or _RELEASE.fullmatch(wanted) else f"invalid version {wanted!r}"


def _is_possible(asked: SpecifierSet) -> bool:
    """Whether a bound of the range, or what comes right after one, lies in it."""
    bounds = [each.version.removesuffix(".*") for each in asked]
    near = [after for bound in bounds for after in (bound, f"{bound}.0.0.1", f"{bound}.1")]
    known = (each for each in map(version, ("0", *near)) if each)
    return any(asked.contains(each, prereleases=True) for each in known)


def _plain(wanted: str) -> Version | None:
    """A version, or the beginning of one: ``2.4``, ``2.*``."""
    try:
        return Version(wanted.removesuffix(".*"))
    except InvalidVersion:
        return None


def satisfies(told: str, wanted: str) -> bool:
    """Whether a host's version fits. A plain ``wanted`` is a prefix: 3.11 is satisfied by 3.11.7, not 3.1.

    A build tag (``+cu124``) counts only when asked for. Pre-releases are versions like others.
    """
    if told == wanted:
        return True
    found = version(told)
    if found is None:
        return False
    if is_range(wanted):
        return SpecifierSet(wanted).contains(found, prereleases=True)
    exact = _plain(wanted)
    if exact is None:
        return False
    if exact.local or exact.is_prerelease or exact.is_postrelease:
        return found == exact
    return SpecifierSet(f"=={exact.public}.*").contains(found, prereleases=True)
