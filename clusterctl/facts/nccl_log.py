"""What NCCL says of itself under NCCL_DEBUG=INFO: over which network it works. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

_BOOTSTRAP = re.compile(r"Bootstrap ?: ?Using (?P<name>[^:\s]+):(?P<address>\S+?)<\d+>")
_DEVICES = re.compile(r"NET/(?P<net>\w+) ?: ?Using (?P<devices>\[0\].*?)(?: \[RO\])?(?:;|$)")
_DEVICE = re.compile(r"\[\d+\](\S+)")
_NETWORK = re.compile(r"Using network (?P<net>.+?)\s*$")
_NO_DEVICE = re.compile(r"NET/IB ?: ?No device found")
_PATH = re.compile(r"via NET/(?P<net>[\w-]+)/\d+(?P<gdr>/GDRDMA)?")
_WARNING = re.compile(r"NCCL WARN (?P<text>.*)")


class NcclLog(msgspec.Struct, frozen=True, kw_only=True):
    """``network`` is what carries data between hosts: ``IB`` (RoCE too), ``Socket``, or a plugin's name; ""
    where it was not said. ``direct`` is whether data goes from the adapter to GPU memory on all paths, None
    where no path leads to another host."""

    bootstrap_name: str = ""
    bootstrap_address: str = ""
    network: str = ""
    devices: tuple[str, ...] = ()
    no_device: bool = False
    direct: bool | None = None
    warnings: tuple[str, ...] = ()


def parse(lines: Iterable[str]) -> NcclLog:
    """All that these lines of one rank tell; lines of other kinds are passed over."""
    found = NcclLog()
    direct: set[bool] = set()
    used: dict[str, tuple[str, ...]] = {}
    warnings: list[str] = []
    for line in lines:
        if hit := _BOOTSTRAP.search(line):
            found = msgspec.structs.replace(
                found, bootstrap_name=hit["name"], bootstrap_address=hit["address"].partition("%")[0]
            )
        elif hit := _DEVICES.search(line):
            used[hit["net"]] = tuple(_DEVICE.findall(hit["devices"]))
        elif _NO_DEVICE.search(line):
            found = msgspec.structs.replace(found, no_device=True)
        elif hit := _NETWORK.search(line):
            found = msgspec.structs.replace(found, network=hit["net"])
        elif hit := _PATH.search(line):
            direct.add(bool(hit["gdr"]))
            found = msgspec.structs.replace(found, network=found.network or hit["net"])
        elif hit := _WARNING.search(line):
            warnings.append(hit["text"])
    network = found.network or next(iter(used), "")
    return msgspec.structs.replace(
        found,
        network=network,
        devices=used.get(network, ()),
        direct=all(direct) if direct else None,
        warnings=tuple(warnings),
    )
