"""Asks the kernel about links, addresses and routes over rtnetlink.

Not /sys: where only the network namespace is a host's own, /sys still shows another machine's interfaces.
Not `ip`: minimal images lack it.
"""

import socket
import struct

RTM_GETLINK, RTM_GETADDR, RTM_GETROUTE = 18, 22, 26
REQUEST, DUMP = 0x1, 0x300
DONE, ERROR = 3, 2

IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_MASTER, IFLA_OPERSTATE, IFLA_LINKINFO = 1, 3, 4, 10, 16, 18
IFLA_CARRIER, IFLA_CARRIER_CHANGES, IFLA_INFO_KIND = 33, 35, 1
IFA_ADDRESS, IFA_LOCAL = 1, 2
RTA_DST, RTA_OIF = 1, 4
TYPE_MASK = 0x3FFF

FAMILIES = {socket.AF_INET: "inet", socket.AF_INET6: "inet6"}
SCOPES = {0: "global", 200: "site", 253: "link", 254: "host"}
OPERSTATES = ("unknown", "notpresent", "down", "lowerlayerdown", "testing", "dormant", "up")


def _ask(kind, body, flags):
    """Yield the payload of each answer to one request."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as link:
        link.settimeout(5)
        link.bind((0, 0))
        link.send(struct.pack("=IHHII", 16 + len(body), kind, REQUEST | flags, 1, 0) + body)
        while True:
            data = link.recv(1 << 18)
            while len(data) >= 16:
                length, answer = struct.unpack_from("=IH", data)
                if answer == DONE:
                    return
                if answer == ERROR:
                    code = -struct.unpack_from("=i", data, 16)[0]
                    raise OSError(code, "the kernel refused a netlink request")
                yield data[16:length]
                data = data[(length + 3) & ~3 :]
            if not flags & DUMP:
                return


def _attributes(data):
    found = {}
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        if length < 4:
            break
        found[kind & TYPE_MASK] = data[4:length]
        data = data[(length + 3) & ~3 :]
    return found


def _text(data):
    return data.rstrip(b"\0").decode("utf-8", "replace")


def _number(data):
    return int.from_bytes(data, "little" if struct.pack("=H", 1)[0] else "big")


def links():
    """One dict for each interface, in the order of their index."""
    found = []
    for data in _ask(RTM_GETLINK, struct.pack("=BBHiII", 0, 0, 0, 0, 0, 0), DUMP):
        _, hardware, index, flags = struct.unpack_from("=BxHiI", data)
        said = _attributes(data[16:])
        state = _number(said.get(IFLA_OPERSTATE, b"\0"))
        found.append(
            {
                "index": index,
                "name": _text(said[IFLA_IFNAME]),
                "hardware": hardware,
                "flags": flags,
                "mtu": _number(said.get(IFLA_MTU, b"\0")),
                "mac": said.get(IFLA_ADDRESS, b"").hex(":") if len(said.get(IFLA_ADDRESS, b"")) <= 20 else "",
                "operstate": OPERSTATES[state] if state < len(OPERSTATES) else "unknown",
                "carrier": bool(_number(said[IFLA_CARRIER])) if IFLA_CARRIER in said else None,
                "carrier_changes": _number(said[IFLA_CARRIER_CHANGES])
                if IFLA_CARRIER_CHANGES in said
                else None,
                "master": _number(said.get(IFLA_MASTER, b"\0")),
                "kind": _text(_attributes(said.get(IFLA_LINKINFO, b"")).get(IFLA_INFO_KIND, b"")),
            }
        )
    return sorted(found, key=lambda link: link["index"])


def addresses():
    """(interface index, family, address, prefix, scope) of every address."""
    found = []
    for data in _ask(RTM_GETADDR, struct.pack("=BBBBI", 0, 0, 0, 0, 0), DUMP):
        family, prefix, _, scope, index = struct.unpack_from("=BBBBI", data)
        said = _attributes(data[8:])
        raw = said.get(IFA_LOCAL, said.get(IFA_ADDRESS))  # IFA_ADDRESS is the peer's on point-to-point links
        if family in FAMILIES and raw:
            text = socket.inet_ntop(family, raw)
            found.append((index, FAMILIES[family], text, prefix, SCOPES.get(scope, "global")))
    return found


def egress(address):
    """Index of the interface that the route to ``address`` leaves by. Raises OSError without a route."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    raw = socket.inet_pton(family, address)
    body = struct.pack("=BBBBBBBBI", family, len(raw) * 8, 0, 0, 0, 0, 0, 0, 0)
    body += struct.pack("=HH", 4 + len(raw), RTA_DST) + raw
    for data in _ask(RTM_GETROUTE, body, 0):
        return _number(_attributes(data[12:]).get(RTA_OIF, b"\0"))
    return 0
