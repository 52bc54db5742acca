"""The hosts a command works on, in hostfile order. That order is the node rank."""

from __future__ import annotations

import msgspec


class Host(msgspec.Struct, frozen=True):
    """One hostfile line after selection. ``name`` is what the hostfile says, ``user@host`` included."""

    name: str
    declared_slots: int
    slots: tuple[int, ...]
    line: int = 0


class HostfileWarning(msgspec.Struct, frozen=True):
    """A line that DeepSpeed accepts but misreads. ``where`` reads ``hostfiles/lab line 3``."""

    where: str
    message: str
    hint: str


class Inventory(msgspec.Struct, frozen=True):
    """``source`` is the hostfile's path; the position of a host in ``hosts`` is its node rank."""

    source: str
    hosts: tuple[Host, ...]
    warnings: tuple[HostfileWarning, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(host.name for host in self.hosts)

    @property
    def world_size(self) -> int:
        return sum(len(host.slots) for host in self.hosts)
