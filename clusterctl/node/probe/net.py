"""Interfaces, routes, ports and names, as this host sees them."""

import os
import re
import socket
import threading
import time

from ..shared import netlink
from ..shared.files import number, read, which

IFF_UP, IFF_LOOPBACK, IFF_RUNNING = 0x1, 0x8, 0x40
KINDS = {
    "bond": "bond", "team": "bond", "vlan": "vlan", "bridge": "bridge", "openvswitch": "bridge",
    "veth": "veth", "tun": "tun", "wireguard": "wireguard", "ipoib": "physical",
}  # fmt: skip
NAME_TIMEOUT = 8.0
NOT_NETWORKS = ("tmfifo_net",)
"""The cable between a BlueField card and its host: one address on every such host."""


def interfaces():
    names = {}
    by_index: dict[int, list[list[object]]] = {}
    for index, family, address, prefix, scope in netlink.addresses():
        by_index.setdefault(index, []).append([family, address, prefix, scope])
    links = netlink.links()
    for link in links:
        names[link["index"]] = link["name"]
    return {"interfaces": [_interface(link, names, by_index.get(link["index"], [])) for link in links]}


def _interface(link, names, addresses):
    name = link["name"]
    sysfs = "/sys/class/net/" + name
    # Another namespace's /sys may have an interface of the same name.
    own_sysfs = number(sysfs + "/ifindex") == link["index"] and read(sysfs + "/address") == link["mac"]
    speed = number(sysfs + "/speed") if own_sysfs else None
    strict = [number("/proc/sys/net/ipv4/conf/%s/rp_filter" % each) for each in ("all", name)]
    return {
        "name": name,
        "index": link["index"],
        "kind": kind(link, sysfs if own_sysfs else ""),
        "up": bool(link["flags"] & IFF_UP),
        "running": bool(link["flags"] & IFF_RUNNING),
        "carrier": link["carrier"],
        "operstate": link["operstate"],
        "mtu": link["mtu"],
        "speed": speed if speed and speed > 0 else None,
        "mac": link["mac"],
        "carrier_changes": link["carrier_changes"],
        "errors": _errors(sysfs) if own_sysfs else None,
        "rp_filter": max((value for value in strict if value is not None), default=None),
        "addresses": [
            {"family": family, "address": address, "prefix": prefix, "scope": scope}
            for family, address, prefix, scope in addresses
        ],
        "bridge_of": names.get(link["master"], ""),
    }


def _errors(sysfs):
    counts = [number("%s/statistics/%s_errors" % (sysfs, way)) for way in ("rx", "tx")]
    return sum(count for count in counts if count is not None) if any(c is not None for c in counts) else None


def kind(link, sysfs):
    """What the interface is; ``sysfs`` is its directory, "" where /sys is not this host's."""
    if link["flags"] & IFF_LOOPBACK:
        return "loopback"
    if sysfs and (os.path.exists(sysfs + "/wireless") or os.path.exists(sysfs + "/phy80211")):
        return "wireless"
    if link.get("name", "").startswith(NOT_NETWORKS):
        return "virtual"
    if link["kind"]:
        return KINDS.get(link["kind"], "virtual")
    if sysfs and os.path.exists(sysfs + "/tun_flags"):
        return "tun"
    return "physical" if not sysfs or os.path.exists(sysfs + "/device") else "virtual"


def routes():
    low, high = read("/proc/sys/net/ipv4/ip_local_port_range").split()
    return {
        "default_device": default_device(),
        "port_range": [int(low), int(high)],
        "firewall": firewall(),
        "vendor": read("/sys/class/dmi/id/sys_vendor"),
        "product": read("/sys/class/dmi/id/product_name"),
    }


def firewall(root=""):
    """Which front end rules are given to: the one that is on, else the tool that is installed."""
    if re.search(r"^ENABLED=yes", read(root + "/etc/ufw/ufw.conf"), re.MULTILINE):
        return "ufw"
    units = (root + "/sys/fs/cgroup" + each + "/system.slice/firewalld.service" for each in ("", "/systemd"))
    if any(os.path.isdir(unit) for unit in units):
        return "firewalld"
    places = ":".join(root + place for place in ("/usr/sbin", "/sbin", "/usr/bin", "/usr/local/sbin"))
    return next((tool for tool in ("iptables", "nft") if which(tool, places)), "")


def default_device():
    """Interface of the default route with the lowest metric, IPv4 before IPv6; "" without one."""
    four = [line.split() for line in read("/proc/net/route").splitlines()[1:]]
    usual = [(int(row[6]), row[0]) for row in four if row[1] == "00000000" and row[7] == "00000000"]
    if not usual:
        six = [line.split() for line in read("/proc/net/ipv6_route").splitlines()]
        usual = [(int(row[5], 16), row[9]) for row in six if row[1] == "00" and row[9] != "lo"]
    return min(usual)[1] if usual else ""


def names(queries):
    """What each name resolves to here. A resolver that hangs costs its own name only."""
    answers: dict[str, object] = {}
    for query in queries:
        threading.Thread(target=_resolve, args=(query, answers), daemon=True).start()
    deadline = time.monotonic() + NAME_TIMEOUT
    while len(answers) < len(queries) and time.monotonic() < deadline:
        time.sleep(0.002)
    late = {"addresses": [], "error": "no answer from the resolver within %g s" % NAME_TIMEOUT, "late": True}
    return {"names": [answers.get(query) or dict(late, query=query) for query in queries]}


def _resolve(query, answers):
    found, error = [], ""
    try:
        # As bytes: for str Python loads its IDNA tables, which costs more than the rest of the probe.
        for row in socket.getaddrinfo(query.encode("ascii"), None, type=socket.SOCK_STREAM):
            if row[4][0] not in found:
                found.append(row[4][0])
    except (OSError, UnicodeError) as problem:
        error = str(problem)
    answers[query] = {"query": query, "addresses": found, "error": error}
