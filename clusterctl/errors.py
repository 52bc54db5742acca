"""The exceptions users meet: what is true, and what to do about it."""

from __future__ import annotations

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


class NoAnswerError(ClusterctlError):
    """No host that was asked could answer: neither the user's words nor clusterctl are at fault."""

    exit_code = 1
