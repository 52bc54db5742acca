"""The commands that make a host sick. Pure: who runs them, and where, is `host`'s business."""

from __future__ import annotations

import zlib
from typing import Literal

Direction = Literal["in", "out"]
BlockKind = Literal["drop", "reset", "admin-prohibited"]

_TARGETS: dict[str, tuple[str, ...]] = {
    "drop": ("-j", "DROP"),
    "reset": ("-j", "REJECT", "--reject-with", "tcp-reset"),
    "admin-prohibited": ("-j", "REJECT", "--reject-with", "icmp-admin-prohibited"),
}

STOP_SSHD = (
    "read pid < /run/sshd.pid && kill $pid || exit 1; "
    "for i in 1 2 3 4 5 6 7 8 9 10; do kill -0 $pid 2>/dev/null || exit 0; sleep 0.1; done; exit 1"
)

EITHER_IPTABLES = (
    'iptables -w "$@" && exit 0; '
    'command -v iptables-legacy >/dev/null || exit 1; exec iptables-legacy -w "$@"'
)


def block_rule(
    direction: Direction, kind: BlockKind, ports: tuple[int, int] | None, peer: str | None
) -> list[str]:
    """One iptables rule. With ``ports`` it is a stateful firewall's: what is open stays open."""
    inwards = direction == "in"
    rule = ["-A", "INPUT" if inwards else "OUTPUT", "!", "-i" if inwards else "-o", "lo"]
    if peer is not None:
        rule += ["-s" if inwards else "-d", peer]
    if ports is not None:
        rule += ["-p", "tcp", "--syn", "--dport", f"{ports[0]}:{ports[1]}"]
    elif kind == "reset":
        rule += ["-p", "tcp"]
    return [*rule, *_TARGETS[kind]]


def rate_limit(card: str, rate: str) -> list[str]:
    """A token bucket on what leaves ``card``."""
    return [
        "tc",
        "qdisc",
        "replace",
        "dev",
        card,
        "root",
        "tbf",
        "rate",
        rate,
        "burst",
        "256kb",
        "latency",
        "50ms",
    ]


def decoy_bridge(name: str, address: str, carrier: bool) -> list[list[str]]:
    """A bridge with an address and one cable plugged in, whose other end is switched on for a carrier."""
    port = f"veth{zlib.crc32(name.encode()):08x}"
    far = f"{port}p"
    return [
        ["ip", "link", "add", name, "type", "bridge"],
        ["ip", "link", "add", port, "type", "veth", "peer", "name", far],
        ["ip", "link", "set", port, "master", name, "up"],
        ["ip", "link", "set", far, "up" if carrier else "down"],
        ["ip", "addr", "add", address, "broadcast", "+", "dev", name],
        ["ip", "link", "set", name, "up"],
    ]
