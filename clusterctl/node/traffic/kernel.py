"""What the kernel knows about a connection: it answers handshakes and acknowledges data by itself.

A verdict taken from here does not depend on how soon a process of either host gets to run.
"""

import array
import fcntl
import select
import socket
import struct
import termios

from ..shared.files import read

ESTABLISHED, SYN_SENT = 1, 2
_PACKET_SIZE, _RTT, _TCP_INFO, _FLOW_INFO = 16, 68, 104, 220
_ERROR = struct.Struct("=IBBBBII")
_ORIGIN_ICMP, _ORIGIN_ICMP6 = 2, 3
_MSG_ERRQUEUE = 0x2000
_RECVERR = {socket.AF_INET: (socket.IPPROTO_IP, 11), socket.AF_INET6: (socket.IPPROTO_IPV6, 25)}
_FORBIDDEN = {
    _ORIGIN_ICMP: (3, (2, 3, 9, 10, 13)),  # a host's own TCP never says 2 or 3: it resets
    _ORIGIN_ICMP6: (1, (1, 4, 5, 6)),
}


def keep_icmp(made, on):
    """Whether ICMP messages about this connection are to be kept for `icmp_error`."""
    made.setsockopt(*_RECVERR[made.family], int(on))


def icmp_error(made):
    """(errno, forbidden by a firewall, who said so) of the first ICMP message; None where none was kept.

    Kernels before 5.9 keep none for TCP.
    """
    try:
        _, said, _, _ = made.recvmsg(1, 512, _MSG_ERRQUEUE)
    except OSError:
        return None
    for _, _, data in said:
        if len(data) < _ERROR.size:
            continue
        code_of_error, origin, kind, code = _ERROR.unpack_from(data)[:4]
        if origin in _FORBIDDEN:
            of_kind, codes = _FORBIDDEN[origin]
            return code_of_error, kind == of_kind and code in codes, _offender(data[_ERROR.size :])
    return None


def _offender(data):
    family = struct.unpack_from("=H", data)[0] if len(data) >= 2 else 0
    if family == socket.AF_INET and len(data) >= 8:
        return socket.inet_ntop(socket.AF_INET, data[4:8])
    if family == socket.AF_INET6 and len(data) >= 24:
        return socket.inet_ntop(socket.AF_INET6, data[8:24])
    return ""


def tcp_info(made):
    """(state, retransmissions, probes, round trip in seconds) of a TCP socket.

    Both are counted since the last progress; probes are made for a window that is closed, and where packets
    do not even leave this host.
    """
    data = made.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO)
    return data[0], data[2], data[3], struct.unpack_from("=I", data, _RTT)[0] / 1e6


def packet_size(made):
    """How many bytes the largest packets of a TCP socket carry."""
    data = made.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO)
    return struct.unpack_from("=I", data, _PACKET_SIZE)[0]


def flow(made, packet=0):
    """How what was sent fared: [bytes acknowledged, seconds under way, packets sent, packets sent again,
    round trip in seconds at the end, shortest]. None where the kernel (before 4.19) does not count them.

    Under way means that the network had it: neither the peer's full window nor a full buffer here counts, nor
    does a process that sends nothing. The kernel counts these in ticks, of up to 10 ms. Among those sent
    again are, roughly, those that this host itself did not let out at first: their bytes count as sent, but
    belong to none that was acknowledged. ``packet`` is how many bytes each has, if not as many as possible.
    """
    data = made.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _FLOW_INFO)
    if len(data) < _FLOW_INFO:
        return None
    again, known_twice = (struct.unpack_from("=I", data, at)[0] for at in (100, 216))
    busy, window, buffer = struct.unpack_from("=3Q", data, 168)
    acknowledged, sent, sent_again = (struct.unpack_from("=Q", data, at)[0] for at in (120, 200, 208))
    kept_back = max(0, sent - sent_again - acknowledged - unacknowledged(made))
    size = packet or struct.unpack_from("=I", data, _PACKET_SIZE)[0] or 1
    return [
        acknowledged,
        max(0, busy - window - buffer) / 1e6,
        struct.unpack_from("=I", data, 156)[0],
        max(0, again - known_twice) + -(-kept_back // size),
        struct.unpack_from("=I", data, _RTT)[0] / 1e6,
        struct.unpack_from("=I", data, 148)[0] / 1e6,
    ]


def retransmissions_failed():
    """How often a packet that was to be sent again did not leave this host: its own firewall keeps it back.
    None where that is not counted."""
    lines = read("/proc/net/netstat").splitlines()
    for number, names in enumerate(lines):
        if "TCPRetransFail" in names:
            return int(lines[number + 1].split()[names.split().index("TCPRetransFail")])
    return None


def unacknowledged(made):
    """Bytes that were sent, or wait to be, and that the other kernel has not acknowledged."""
    count = array.array("i", [0])
    fcntl.ioctl(made, termios.TIOCOUTQ, count)
    return count[0]


def has_news(made):
    """Whether something happened to the socket that nobody has looked at yet."""
    poll = select.poll()
    poll.register(made, select.POLLIN | select.POLLOUT)
    return bool(poll.poll(0))


def answers_arp(address):
    """Whether this IPv4 neighbour told its Ethernet address; None for what is behind a router, or unknown."""
    for line in read("/proc/net/arp").splitlines()[1:]:
        row = line.split()
        if row[0] == address:
            return row[2] != "0x0"
    return None


def neighbour_table_fulls():
    """How often the kernel's neighbour table had no room, since boot; None where that is not shown.

    Only the first network namespace of a machine shows it. The table is the whole machine's.
    """
    rows = [line.split() for line in read("/proc/net/stat/arp_cache").splitlines()]
    if not rows or "table_fulls" not in rows[0]:
        return None
    column = rows[0].index("table_fulls")
    return sum(int(row[column], 16) for row in rows[1:])
