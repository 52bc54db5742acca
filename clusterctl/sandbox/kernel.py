"""The few Linux calls Python 3.10 does not offer: namespaces, mounts, and a network card's address.

Imported by programs that run with ``python -I -S``: standard library only.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import socket
import struct
from pathlib import Path

NEW_NS = 0x00020000
NEW_UTS = 0x04000000
NEW_IPC = 0x08000000
NEW_USER = 0x10000000
NEW_PID = 0x20000000
NEW_NET = 0x40000000

MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000

_SIOCSARP = 0x8955
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_SIOCSIFADDR = 0x8916
_SIOCSIFNETMASK = 0x891C
_SIOCSIFMTU = 0x8922
_IFF_UP = 0x1
_ETHERNET = 1
_ARP_COMPLETE_AND_PERMANENT = 0x6
_PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    """Leave the namespaces named by ``flags`` for fresh ones. Raises OSError that names the call."""
    _checked(_libc.unshare(ctypes.c_int(flags)), f"unshare({flags:#x})")


def setns(descriptor: int, flag: int) -> None:
    """Join the namespace behind an open ``/proc/PID/ns/*`` descriptor."""
    _checked(_libc.setns(ctypes.c_int(descriptor), ctypes.c_int(flag)), f"setns({flag:#x})")


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    """mount(2). Raises OSError that names the target."""
    done = _libc.mount(
        os.fsencode(source),
        os.fsencode(target),
        kind.encode() or None,
        ctypes.c_ulong(flags),
        options.encode() or None,
    )
    _checked(done, f"mount {kind or 'bind'} on {target}")


def bind(source: str, target: str, *, recursive: bool = False) -> None:
    """Show ``source`` at ``target``, which must exist."""
    mount(source, target, flags=MS_BIND | (MS_REC if recursive else 0))


def sethostname(name: str) -> None:
    """Name this UTS namespace."""
    encoded = name.encode()
    _checked(_libc.sethostname(encoded, ctypes.c_size_t(len(encoded))), "sethostname")


def die_with_parent() -> None:
    """Have the kernel kill this process when the one that forked it ends."""
    _checked(_libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0), "prctl")


def map_one_user(inside_uid: int, inside_gid: int, outside_uid: int, outside_gid: int) -> None:
    """Give the calling process's new user namespace its single user and group."""
    Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
    Path("/proc/self/uid_map").write_text(f"{inside_uid} {outside_uid} 1", encoding="ascii")
    Path("/proc/self/gid_map").write_text(f"{inside_gid} {outside_gid} 1", encoding="ascii")


def configure_interface(name: str, address: str, prefix: int, mtu: int | None) -> None:
    """Set MTU and IPv4 address (``""`` for none) of a network card of this namespace and bring it up."""
    card = name.encode()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        if mtu is not None:
            fcntl.ioctl(control, _SIOCSIFMTU, struct.pack("16si12x", card, mtu))
        if address:
            mask = (0xFFFFFFFF << (32 - prefix)) & 0xFFFFFFFF
            fcntl.ioctl(control, _SIOCSIFADDR, _with_address(card, socket.inet_aton(address)))
            fcntl.ioctl(control, _SIOCSIFNETMASK, _with_address(card, struct.pack(">I", mask)))
        answer = fcntl.ioctl(control, _SIOCGIFFLAGS, struct.pack("16sh14x", card, 0))
        flags: int = struct.unpack_from("16sh", answer)[1] | _IFF_UP
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh14x", card, flags))


def add_neighbour(card: str, address: str, mac: str) -> None:
    """Say for good which Ethernet address an IPv4 address has."""
    request = struct.pack(
        "=HH4s8xH14siHH4s8x16s",
        socket.AF_INET,
        0,
        socket.inet_aton(address),
        _ETHERNET,
        bytes.fromhex(mac.replace(":", "")),
        _ARP_COMPLETE_AND_PERMANENT,
        socket.AF_INET,
        0,
        b"\xff" * 4,
        card.encode(),
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SIOCSARP, request)


def _with_address(card: bytes, packed: bytes) -> bytes:
    return struct.pack("16sHH4s8x", card, socket.AF_INET, 0, packed)


def start_time(pid: int) -> int:
    """When a process started, in clock ticks since boot. Raises OSError when there is none, or only a zombie.

    Together with the pid it names one process for as long as the machine stays up.
    """
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    fields = stat.rpartition(")")[2].split()
    if fields[0] in "ZX":
        raise ProcessLookupError(f"process {pid} has ended")
    return int(fields[19])
