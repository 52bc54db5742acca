"""How NCCL, Gloo and TensorPipe read the interface variables: three readers, two grammars.

NCCL: ``^`` and then ``=`` may open the value and hold for the whole comma list; ``eth`` is a prefix,
``=eth0`` exact, ``^docker`` excludes. Spaces belong to names, and the order of the list means nothing.
Gloo and TensorPipe: plain interface names.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

NCCL = "NCCL_SOCKET_IFNAME"
GLOO = "GLOO_SOCKET_IFNAME"
TENSORPIPE = "TP_SOCKET_IFNAME"
VARIABLES = (NCCL, GLOO, TENSORPIPE)
MOST_NAMES = 16
"""NCCL reads no more of a list."""


class NcclFilter(msgspec.Struct, frozen=True):
    """A parsed NCCL_SOCKET_IFNAME. Without a name it is about every interface."""

    excludes: bool
    exact: bool
    names: tuple[str, ...]

    def admits(self, ifname: str) -> bool:
        hit = any(ifname == name if self.exact else ifname.startswith(name) for name in self.names)
        return (hit or not self.names) != self.excludes


def parse_nccl(value: str) -> NcclFilter | None:
    """None where NCCL ignores the value (shorter than two characters) and chooses by itself."""
    if len(value) < 2:
        return None
    rest = value
    excludes = rest.startswith("^")
    rest = rest[1:] if excludes else rest
    exact = rest.startswith("=")
    rest = rest[1:] if exact else rest
    names = (part.partition(":")[0] for part in rest.split(","))
    return NcclFilter(excludes, exact, tuple(name for name in names if name)[:MOST_NAMES])


def admitted(variable: str, value: str, ifnames: Iterable[str]) -> tuple[str, ...]:
    """The interfaces that ``variable=value`` lets its reader use, in the order given."""
    if variable == NCCL:
        wanted = parse_nccl(value)
        return tuple(name for name in ifnames if wanted is None or wanted.admits(name))
    plain = {name.strip() for name in value.split(",")}
    return tuple(name for name in ifnames if name in plain)
