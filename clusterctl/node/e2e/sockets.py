"""Connections of another process that its peers' kernels leave without an answer, told by this kernel."""

import os
import socket
import struct

from ..shared.files import listing, read

SYN_SENT, ESTABLISHED = "02", "01"
RETRANSMITTING = "01"
ENOUGH = 3
"""Requests, or pieces of data, sent again so often without an answer: seven seconds at the least."""


def unanswered(pid):
    """(address, "connect" or "data") of each, sorted. How busy the other machine is does not count: kernels
    answer by themselves."""
    sockets = {_link(pid, descriptor) for descriptor in listing("/proc/%d/fd" % pid)}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in read("/proc/%d/net/%s" % (pid, table)).splitlines()[1:]:
            row = line.split()
            if "socket:[%s]" % row[9] not in sockets or row[3] not in (SYN_SENT, ESTABLISHED):
                continue
            if row[5].partition(":")[0] == RETRANSMITTING and int(row[6], 16) >= ENOUGH:
                kind = "connect" if row[3] == SYN_SENT else "data"
                found.add((address(row[2].partition(":")[0]), kind))
    return sorted(found)


def _link(pid, descriptor):
    try:
        return os.readlink("/proc/%d/fd/%s" % (pid, descriptor))
    except OSError:
        return ""


def address(text):
    """The address that /proc/net/tcp writes as words of this machine's byte order."""
    words = [int(text[place : place + 8], 16) for place in range(0, len(text), 8)]
    packed = struct.pack("=%dI" % len(words), *words)
    if len(packed) == 4:
        return socket.inet_ntop(socket.AF_INET, packed)
    if packed[:12] == b"\0" * 10 + b"\xff\xff":
        return socket.inet_ntop(socket.AF_INET, packed[12:])
    return socket.inet_ntop(socket.AF_INET6, packed)
