"""What somebody asks for: hosts, their network cards, their files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import msgspec

from clusterctl.errors import UsageError
from clusterctl.settings import SANDBOX

_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,61}[A-Za-z0-9])?")
_CARD_NAME = re.compile(r"[^\s/:]{1,15}")
_SANDBOX_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")


class FileSpec(msgspec.Struct, frozen=True):
    """A file installed in one host's view of the machine."""

    content: str | bytes
    mode: int = 0o644


class Nic(msgspec.Struct, frozen=True):
    """A network card. Cards on the same ``network`` are on the same switch.

    ``address`` is ``None`` for one chosen by the sandbox, ``""`` for a card without an address, or
    ``"10.9.8.7/24"`` (the prefix is 24 when left out). ``mtu`` is ``None`` for 1500.
    """

    name: str
    network: str = "lan"
    address: str | None = None
    mtu: int | None = None


class HostSpec(msgspec.Struct, frozen=True):
    """A host. The first card is the one SSH comes in on; all hosts have theirs on the same network.

    ``user`` is the login name (the caller's own when ``None``; the uid stays the caller's), ``port`` is
    sshd's. ``files`` are installed in the host's view when it starts.
    """

    name: str
    slots: int = 1
    nics: tuple[Nic, ...] = (Nic("eth0"),)
    files: Mapping[str, str | bytes | FileSpec] = {}
    user: str | None = None
    port: int = 22


def numbered(nodes: int, slots: Sequence[int]) -> tuple[HostSpec, ...]:
    """``node1`` to ``nodeN``. ``slots`` has one figure for all, or one for each."""
    if not 1 <= nodes <= SANDBOX.max_hosts:
        raise UsageError(
            f"a sandbox has 1 to {SANDBOX.max_hosts} nodes, not {nodes}", hint="sandbox up --nodes 2"
        )
    if len(slots) not in (1, nodes) or min(slots, default=0) < 1:
        raise UsageError(
            f"{len(slots)} slot counts for {nodes} nodes: {','.join(map(str, slots))}",
            hint="give one positive number for all nodes, or one for each: --slots 3,1",
        )
    counts = tuple(slots) if len(slots) == nodes else tuple(slots) * nodes
    return tuple(HostSpec(f"node{index}", slots=count) for index, count in enumerate(counts, start=1))


def check_name(name: str) -> None:
    """Raises UsageError for a sandbox name that cannot be a directory's."""
    if not _SANDBOX_NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be a sandbox's name", hint="letters, digits, - and _, at most 32, e.g. lab2"
        )


def check_hosts(hosts: Sequence[HostSpec]) -> None:
    """Raises UsageError for hosts that could not be built, naming the first that is wrong."""
    if not 1 <= len(hosts) <= SANDBOX.max_hosts:
        raise UsageError(f"a sandbox has 1 to {SANDBOX.max_hosts} hosts, not {len(hosts)}")
    names = [host.name for host in hosts]
    if len(set(names)) != len(names):
        raise UsageError(f"two hosts have the same name: {', '.join(sorted(names))}")
    for host in hosts:
        if not _HOST_NAME.fullmatch(host.name):
            raise UsageError(f"{host.name!r} cannot be a host's name")
        if host.slots < 1:
            raise UsageError(f"{host.name}: slots must be 1 or more, not {host.slots}")
        if not host.nics or host.nics[0].address == "":
            raise UsageError(f"{host.name}: the first network card carries SSH and needs an address")
        if host.nics[0].network != hosts[0].nics[0].network:
            raise UsageError(
                f"{host.name}: its first network card is on {host.nics[0].network!r}, "
                f"that of {hosts[0].name} on {hosts[0].nics[0].network!r}"
            )
        cards = [nic.name for nic in host.nics]
        if len(set(cards)) != len(cards) or "lo" in cards or not all(map(_CARD_NAME.fullmatch, cards)):
            raise UsageError(f"{host.name}: these cannot be the names of its network cards: {cards}")
