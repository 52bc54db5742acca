"""What this machine's kernel knows of a connection on which data stands still, and how that is told."""

from __future__ import annotations

import array
import fcntl
import socket
import struct
import termios
from typing import Any

from clusterctl.transport import failures
from clusterctl.transport.endpoint import Endpoint
from clusterctl.transport.protocol import Failure, Stuck

_TCP_INFO, _RETRANSMITS, _STATE = 104, 2, 0
_ESTABLISHED = 1
_SO_MEMINFO = 55
_RESENT = 3
"""So often the kernel has sent the same packet again: at least a second and a half without an answer."""


def stuck(made: Any) -> Stuck:
    """Which part of the traffic does not get through: what is ``sent`` from here, of which the same packet
    was sent again and again; or the ``answer``, of which later packets came and an earlier one did not."""
    if not isinstance(made, socket.socket) or made.family not in (socket.AF_INET, socket.AF_INET6):
        return ""
    try:
        info = made.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO)
        if info[_STATE] != _ESTABLISHED:
            return ""
        if info[_RETRANSMITS] >= _RESENT and _count(made, termios.TIOCOUTQ):
            return "sent"
        # Memory that is in use though nothing can be read holds packets after a gap.
        kept = struct.unpack_from("=I", made.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 64))[0]
        return "answer" if kept and not _count(made, termios.FIONREAD) else ""
    except OSError:
        return ""


def _count(made: socket.socket, request: int) -> int:
    found = array.array("i", [0])
    fcntl.ioctl(made.fileno(), request, found)
    return found[0]


def takes_connections(address: tuple[str, int], timeout: float) -> bool:
    """Whether a new connection comes about: its packets are small."""
    try:
        socket.create_connection(address, timeout).close()
    except OSError:
        return False
    return True


def no_key(endpoint: Endpoint) -> Failure:
    """It greeted us, and there it stood still."""
    return failures.failure(
        endpoint,
        "deadline",
        f"{endpoint.address} greeted us, and the exchange of keys did not come to an end",
        "packets larger than the greeting may be lost on the way: tracepath -n "
        f"{endpoint.hostname}; "
        "or sshd there stands still",
    )


def path_mtu(host: str, which: Stuck) -> Failure:
    """Small packets pass and large ones do not: what a tunnel or a VPN on the way does that takes less than
    both ends believe, behind a firewall that keeps ICMP's word of it from them."""
    lost = "what is sent to it" if which == "sent" else "its answer"
    return Failure(
        host=host,
        stage="path",
        message=f"of {lost} the large packets are lost on the way, small ones pass: something between this "
        "machine and the host takes less than a full packet (path MTU)",
        hint=f"tracepath -n {host} shows what passes; give the interface here that leads there (a VPN, a "
        "tunnel) that MTU, or let ICMP pass in the firewalls between",
    )
