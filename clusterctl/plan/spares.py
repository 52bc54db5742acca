"""Hosts that stand by: which they are, and whose node rank they take. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

import msgspec

from clusterctl.errors import UsageError
from clusterctl.inventory.fold import expand, fold
from clusterctl.inventory.model import Host, Inventory

_HARDWARE = re.compile(
    r"uncorrectable|\bECC\b|\bXid\b|fallen off the bus|GPU is lost|NVLink|hardware|unknown error"
    r"|Input/output error",
    re.IGNORECASE,
)


def split(inventory: Inventory, asked: str) -> tuple[Inventory, tuple[Host, ...]]:
    """The hosts that get ranks, and those that stand by: the last N, or those named with commas. Raises
    UsageError where no host would be left, or one is not there."""
    if not asked:
        return inventory, ()
    names = _names(inventory, asked)
    spares = tuple(host for host in inventory.hosts if host.name in names)
    active = tuple(host for host in inventory.hosts if host.name not in names)
    if not active:
        raise UsageError(
            f"--spares {asked}: of {len(inventory.hosts)} in all, no host would be left to train",
            hint="fewer spares, or more hosts",
        )
    return msgspec.structs.replace(inventory, hosts=active), spares


def _names(inventory: Inventory, asked: str) -> set[str]:
    if asked.isdecimal():
        return set(inventory.names[len(inventory.names) - min(int(asked), len(inventory.names)) :])
    names = {each for word in asked.split(",") if word for each in _expanded(word.strip(), inventory)}
    if unknown := sorted(names - set(inventory.names)):
        raise UsageError(
            f"--spares: {unknown[0]} is not among the hosts", hint=f"they are {fold(inventory.names)}"
        )
    return names


def _expanded(word: str, inventory: Inventory) -> tuple[str, ...]:
    return (word,) if word in inventory.names or "[" not in word else tuple(expand(word))


class Replacement(msgspec.Struct, frozen=True):
    """``spare`` takes the node rank of ``host``."""

    host: str
    spare: str


def substitute(
    active: Sequence[Host], unusable: Collection[str], spares: Sequence[Host]
) -> tuple[tuple[Host, ...], tuple[Replacement, ...], tuple[str, ...]]:
    """The hosts in the order of their node ranks, each unusable one replaced by the first spare that has as
    many slots; who was replaced; and for whom there was no such spare, who stays."""
    free = [spare for spare in spares if spare.name not in unusable]
    hosts, replaced, without = [], [], []
    for host in active:
        fits = next((spare for spare in free if len(spare.slots) >= len(host.slots)), None)
        if host.name not in unusable:
            hosts.append(host)
        elif fits is None:
            hosts.append(host)
            without.append(host.name)
        else:
            free.remove(fits)
            hosts.append(msgspec.structs.replace(fits, slots=fits.slots[: len(host.slots)]))
            replaced.append(Replacement(host.name, fits.name))
    return tuple(hosts), tuple(replaced), tuple(without)


def blames_hardware(text: str) -> bool:
    """Whether what a rank said points to its machine rather than to its script."""
    return _HARDWARE.search(text) is not None
