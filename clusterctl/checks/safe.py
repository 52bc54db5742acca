"""All that clusterctl may do to a host or to this machine without a person at the keyboard of it.

Each is a type of its own: what is none of these is never run. None needs root, cuts a connection or loses
data, and each can be taken back. Shared memory without an owner is not among them: a process in another
container may use it, unseen.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec


class SetAside(msgspec.Struct, frozen=True, tag=True):
    """Rename a file of the user's own to ``.old``, over none that is there."""

    path: str
    where: ClassVar[Literal["host"]] = "host"

    @property
    def words(self) -> tuple[str, ...]:
        return ("mv", "-n", self.path, f"{self.path}.old")


class MakeDirectory(msgspec.Struct, frozen=True, tag=True):
    """Make a directory that is missing, for the user alone."""

    path: str
    where: ClassVar[Literal["host"]] = "host"

    @property
    def words(self) -> tuple[str, ...]:
        return ("mkdir", "-p", "-m", "700", self.path)


class CloseKey(msgspec.Struct, frozen=True, tag=True):
    """Take from others the right to read a private key on this machine: ssh refuses one that is open."""

    path: str
    where: ClassVar[Literal["here"]] = "here"

    @property
    def words(self) -> tuple[str, ...]:
        return ("chmod", "600", self.path)


SafeAction = SetAside | MakeDirectory | CloseKey
