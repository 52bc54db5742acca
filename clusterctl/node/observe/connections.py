"""Bytes of the TCP connections that processes have open, as the kernel tells them (NETLINK_SOCK_DIAG).

A figure of an interface would be everybody's; these are the ranks' own.
"""

import contextlib
import ipaddress
import os
import socket
import struct

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_REQUEST_DUMP = 0x301
_ERROR, _DONE = 2, 3
_INET_DIAG_INFO = 2
_STATES = 0xFFF & ~(1 << 6 | 1 << 7 | 1 << 10)  # less TIME_WAIT, CLOSE and LISTEN
_HEADER = struct.Struct("=IHHII")
_MESSAGE = 72
_ACKED = 120  # in tcp_info: bytes_acked, then bytes_received
_FAMILIES = ((socket.AF_INET, 4), (socket.AF_INET6, 16))


class Connections:
    """All of this network namespace at one moment: {inode: (bytes that were acknowledged, bytes received)}.

    Without those from or to ``port``, where torch's store is asked every second by ranks that hang, too.
    Those with addresses of the whole world are counted apart: what a rank tells a dashboard is no training.
    """

    def __init__(self, port=0):
        self._port = port
        self._foreign: dict[bytes, bool] = {}
        self.open: dict[int, tuple[int, int]] = {}
        self.internet: dict[int, tuple[int, int]] = {}

    def look(self):
        """Raises OSError where the kernel does not tell."""
        self.open, self.internet = {}, {}
        for family, size in _FAMILIES:
            for data in _dump(family):
                self._take(data, size)

    def of(self, pid):
        """(sent, received) of the connections of one process, less those that others hold as well and were
        counted; raises OSError where it may not be asked."""
        sent = received = 0
        for inode in inodes(pid) & set(self.open):
            told = self.open.pop(inode)
            sent, received = sent + told[0], received + told[1]
        return sent, received

    def internet_of(self, pid):
        """Bytes of the connections of one process with the whole world; as `of`."""
        return sum(sum(self.internet.pop(inode)) for inode in inodes(pid) & set(self.internet))

    def _take(self, data, size):
        ports = struct.unpack_from(">HH", data, 4)
        if self._port in ports:
            return
        found = self.internet if self._is_foreign(data[24 : 24 + size]) else self.open
        inode = struct.unpack_from("=I", data, 68)[0]
        position = _MESSAGE
        while position + 4 <= len(data):
            length, kind = struct.unpack_from("=HH", data, position)
            if length < 4:
                return
            if kind == _INET_DIAG_INFO and length >= 4 + _ACKED + 16:
                found[inode] = struct.unpack_from("=QQ", data, position + 4 + _ACKED)
            position += (length + 3) & ~3

    def _is_foreign(self, raw):
        if raw not in self._foreign:
            address = ipaddress.ip_address(raw)
            mapped = getattr(address, "ipv4_mapped", None)
            self._foreign[raw] = (mapped or address).is_global
        return self._foreign[raw]


def _dump(family):
    """Each answer to one question for all TCP sockets of a family."""
    body = struct.pack("=BBBBI", family, socket.IPPROTO_TCP, 1 << (_INET_DIAG_INFO - 1), 0, _STATES)
    body += bytes(48)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as link:
        link.settimeout(5)
        link.send(_HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 1, 0) + body)
        while True:
            data = link.recv(1 << 18)
            while len(data) >= _HEADER.size:
                length, kind = struct.unpack_from("=IH", data)
                if kind == _DONE:
                    return
                if kind == _ERROR or length < _HEADER.size:
                    raise OSError("the kernel does not tell of connections")
                if length >= _HEADER.size + _MESSAGE:
                    yield data[_HEADER.size : length]
                data = data[(length + 3) & ~3 :]


def inodes(pid):
    """Of the sockets a process has open. Raises OSError."""
    folder = "/proc/%d/fd" % pid
    found = set()
    for entry in os.listdir(folder):
        with contextlib.suppress(OSError, ValueError):
            target = os.readlink(os.path.join(folder, entry))
            if target.startswith("socket:["):
                found.add(int(target[8:-1]))
    return found
