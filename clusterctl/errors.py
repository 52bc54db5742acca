"""The exceptions users meet: what is true, and what to do about it."""

from __future__ import annotations

import re
from typing import ClassVar


class ClusterctlError(Exception):
    """A mistake the user can repair, or a state of the world that stops the whole command.

    ``message`` says what is true and where (host, or file and line); ``hint`` says what to do; ``exit_code``
    is what the command ends with. A sick host is never raised: it is an outcome, so that one of them cannot
    hide the others.
    """

    exit_code: ClassVar[int] = 125

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message


class UsageError(ClusterctlError):
    """The command line, a hostfile, a profile or a config cannot be used as it stands, or names what is not
    there."""

    exit_code = 64


class NoHostsError(UsageError):
    """No host is named anywhere: what people meet who have just begun."""


class NoAnswerError(ClusterctlError):
    """No host that was asked could answer: neither the user's words nor clusterctl are at fault."""

    exit_code = 1


_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "object": "a group of fields",
    "array": "a list",
    "null": "empty",
}


def in_words(error: Exception) -> str:
    """What a JSON decoder has found, in words: ``nodes[0].port is text, not a whole number``."""
    text, _, place = str(error).partition(" - at `")
    place = place.replace("`", "").replace("$.", "").removeprefix("$")
    if found := re.fullmatch(r"Expected `(.+?)`, got `(.+?)`", text):
        wanted, got = (
            " or ".join(_KINDS.get(kind, kind) for kind in each.split(" | ")) for each in found.groups()
        )
        return f"{place or 'it'} is {got}, not {wanted}"
    if found := re.fullmatch(r"Object missing required field `(.+)`", text):
        return f"{place}.{found[1]} is missing" if place else f"{found[1]} is missing"
    if text.startswith("Invalid enum value "):
        return f"{place or 'it'} is {text.removeprefix('Invalid enum value ')}, which is not known here"
    if " matching regex " in text:
        return f"{place or 'it'} has a form that is not allowed"
    if found := re.fullmatch(r"Expected `.+?` ([<>]=? .+)", text):
        return f"{place or 'it'} is not {found[1]}"
    if text.startswith(("JSON is malformed", "Input data was truncated")):
        return "it is not complete JSON"
    return f"{place}: {text.replace('`', '')}" if place else text.replace("`", "")
