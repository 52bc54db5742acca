"""Texts without the secrets in them, for files that others will read. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Any

from clusterctl.plan.variables import HIDDEN, is_secret

_SHORTEST = 6
"""A value with fewer letters, such as ``false``, says nothing about the texts that it stands in."""
_WORD = r"(?:\"[^\"]*\"|'[^']*'|[^\s;&|\"'])+"
_LOGIN = re.compile(r"(?<=://)(?!\*\*\*@)(?:[^/\s:@]*:[^/\s]*|(?<=https://)[^/\s]+|(?<=http://)[^/\s]+)@")
_SECRET_FLAG = r"(?:token(?!iz)|api[-_]?key|secret|password|passwd|credential)"
_NAMED = re.compile(  # names have an end, so that a host cannot make the search take long
    r"(\b(?:[A-Z0-9_]{0,60}(?:TOKEN|KEY|SECRET|PASSWORD|PASSWD|CREDENTIAL)[A-Z0-9_]{0,60}"
    r"|[a-z0-9_]{0,60}(?:token|api_?key|secret|password|passwd|credential)[a-z0-9_]{0,60})=)" + _WORD
    + r"|((?<![\w-])--?[\w-]{0,60}" + _SECRET_FLAG + r"[\w-]{0,60}[ =]\s*)" + _WORD
    + r"|(\b[Bb]earer\s+)\S+"
)  # fmt: skip
_SHAPED = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    r"|\bhf_[A-Za-z0-9]{16,}|\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_\w{20,}|\bglpat-[\w-]{16,}"
    r"|\bsk-[\w-]{20,}|\bAKIA[0-9A-Z]{16}\b|\bxox[abprs]-[\w-]{10,}"
    r"|\beyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]+",
    re.DOTALL,
)


class Redaction:
    """Hides the values of ``variables`` (name, value) that are secret by their names, wherever they stand,
    and what looks like a secret in any text. Of one variable, equal values stay equal, others different.

    Texts in ``names`` are known to be no secrets.
    """

    def __init__(self, variables: Iterable[tuple[str, str]] = (), names: Collection[str] = ()) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in variables:
            known = self._values.setdefault(name, [])
            if is_secret(name) and value and value not in known:
                known.append(value)
        anywhere = {
            value
            for values in self._values.values()
            for value in values
            if len(value.strip()) >= _SHORTEST and value not in names and not value.startswith(("/", "~/"))
        }
        longest_first = sorted(anywhere, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, longest_first))) if anywhere else None

    def value(self, name: str, value: str) -> str:
        """The value of one variable."""
        if not value or not is_secret(name):
            return self.text(value)
        known = self._values.get(name, [value])
        place = known.index(value) if value in known else 0
        return HIDDEN if place == 0 else f"{HIDDEN[:-1]} {place + 1})"

    def text(self, text: str) -> str:
        """Any text: what a host said, a command line, a URL."""
        if self._known:
            text = self._known.sub(HIDDEN, text)
        if "://" in text:
            text = _LOGIN.sub(f"{HIDDEN}@", text)
        text = _NAMED.sub(lambda found: f"{found[1] or found[2] or found[3]}{HIDDEN}", text)
        return _SHAPED.sub(HIDDEN, text)

    def everywhere(self, value: Any) -> Any:
        """All texts in lists and dicts of them, at any depth; keys stay."""
        if isinstance(value, str):
            return self.text(value).encode("utf-8", "backslashreplace").decode()
        if isinstance(value, dict):
            return {key: self.everywhere(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self.everywhere(each) for each in value]
        return value
