"""The one network card a root sandbox puts into the user's own network namespace."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterable
from ipaddress import IPv4Network
from pathlib import Path

from clusterctl.errors import ClusterctlError
from clusterctl.settings import SANDBOX

SWITCH_END = "uplink"
_CARDS = Path("/sys/class/net")


def ip_binary() -> str:
    """Where iproute2's `ip` is. Raises ClusterctlError."""
    found = shutil.which("ip", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/bin:/bin")
    if found is None:
        raise ClusterctlError(
            "the sandbox needs `ip` to wire its hosts, and it is not installed",
            hint="apt-get install iproute2 (Debian, Ubuntu), dnf install iproute (Fedora, RHEL)",
        )
    return found


def link_name(directory: Path) -> str:
    """A card name that belongs to this sandbox directory alone."""
    return f"cctl-{hashlib.sha256(os.fsencode(directory)).hexdigest()[:8]}"


def connect(link: str, address: str, prefix: int, holder: int) -> None:
    """A cable from the user's network namespace to the switch; only hosts of the sandbox are behind it."""
    # One of this name is left over from a sandbox whose files were removed by hand.
    disconnect(link)
    orders = (
        f"link add {link} type veth peer name {SWITCH_END} netns {holder}\n"
        f"addr add {address}/{prefix} broadcast + dev {link}\n"
        f"link set {link} up\n"
    )
    done = subprocess.run(
        [ip_binary(), "-batch", "-"], input=orders, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise ClusterctlError(f"cannot connect this machine to the sandbox: {done.stderr.strip()}")


def disconnect(link: str) -> None:
    """Remove the card; the kernel may already be doing it."""
    deadline = time.monotonic() + SANDBOX.down_timeout
    while (_CARDS / link).exists():
        said = subprocess.run(
            [ip_binary(), "link", "delete", link], capture_output=True, text=True, check=False
        ).stderr
        if time.monotonic() > deadline:
            raise ClusterctlError(f"the network card {link} stays: {said.strip()}")


def routed_subnets() -> Iterable[IPv4Network]:
    """The subnets this machine has routes to, default routes aside."""
    for row in Path("/proc/net/route").read_text(encoding="ascii").splitlines()[1:]:
        fields = row.split()
        # Both are in the byte order of the machine's words, least significant first on what Linux runs on.
        address, mask = (int.from_bytes(bytes.fromhex(fields[i])[::-1], "big") for i in (1, 7))
        if mask:
            yield IPv4Network((address, mask.bit_count()))
