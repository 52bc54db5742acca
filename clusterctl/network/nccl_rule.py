"""Which interface NCCL takes by its own rule: predicted, for hosts whose libnccl cannot be asked.

Tested against recorded answers of real libraries in many sets of interfaces. What cannot be known from the
facts is said, not guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import ip_address

import msgspec

from clusterctl.facts.model import Address, Interface
from clusterctl.facts.versions import satisfies
from clusterctl.network.ifname import NCCL, NcclFilter, parse_nccl

FAMILY = "NCCL_SOCKET_FAMILY"
COMM_ID = "NCCL_COMM_ID"
_FAMILIES = {"AF_INET": ("inet",), "AF_INET6": ("inet6",)}
_BOTH = ("inet", "inet6")
_INDEX_HASH = 256
"""Kernels before 6.10 list addresses by the interface's index modulo this, later ones by the index."""


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """``ifname`` and ``address``; both "" where NCCL finds none. ``unknown`` says why it cannot be known."""

    ifname: str = ""
    address: str = ""
    unknown: str = ""


def predict(interfaces: Iterable[Interface], env: Mapping[str, str], version: str) -> Prediction:
    """What NCCL ``version`` takes under ``env``, "" for a version that is not known."""
    if len(env.get(COMM_ID, "")) > 1:
        return Prediction(unknown=f"{COMM_ID} decides")
    known = tuple(interfaces)
    said = {
        _taken(known, env, newer=newer, hashed=hashed)
        for newer in _newer(version)
        for hashed in (False, True)
    }
    if len(said) == 1:
        return said.pop()
    names = sorted({each.ifname or "none" for each in said})
    return Prediction(unknown=f"NCCL's version or the kernel's decides between {' and '.join(names)}")


def _newer(version: str) -> tuple[bool, ...]:
    """Whether it wants a carrier and leaves virbr for last; both where that is not known."""
    if satisfies(version, ">=2.28.3"):
        return (True,)
    return (False,) if satisfies(version, "<=2.27.7") else (False, True)


def _taken(
    interfaces: tuple[Interface, ...], env: Mapping[str, str], *, newer: bool, hashed: bool
) -> Prediction:
    families = _FAMILIES.get(env.get(FAMILY, ""), _BOTH)
    usable = [
        (link, address)
        for link, address in _in_order(interfaces, families, hashed)
        if link.running or not newer
    ]
    wanted = parse_nccl(env.get(NCCL, ""))
    for each in (wanted,) if wanted else _by_itself(newer):
        for link, address in usable:
            if each.admits(link.name):
                return Prediction(ifname=link.name, address=address.address)
    return Prediction()


def _by_itself(newer: bool) -> tuple[NcclFilter, ...]:
    """In this order, each only where those before it find nothing."""
    left_out = ("docker", "lo", "virbr") if newer else ("docker", "lo")
    last = ("ib", None, *left_out)
    return tuple(
        NcclFilter(excludes=name is None, exact=False, names=left_out if name is None else (name,))
        for name in last
    )


def _in_order(
    interfaces: tuple[Interface, ...], families: tuple[str, ...], hashed: bool
) -> list[tuple[Interface, Address]]:
    """Addresses as the system lists them: first all IPv4, then all IPv6, by interface index."""
    by_index = sorted(interfaces, key=lambda link: (link.index % _INDEX_HASH if hashed else 0, link.index))
    return [
        (link, address)
        for family in _BOTH
        if family in families
        for link in by_index
        for address in link.addresses
        if address.family == family and not (family == "inet6" and ip_address(address.address).is_loopback)
    ]
