"""Lines that open ports, in the words of the firewall that a host has."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_network

import msgspec

from clusterctl.checks import remedy
from clusterctl.checks.remedy import Remedy, shell
from clusterctl.facts.model import Facts

Ports = tuple[int, int]


def inbound(facts: Facts | None, ports: Ports, subnet: str) -> Remedy:
    """Let TCP from ``subnet`` ("" is everybody) in to ``ports``."""
    lines = {kind: line(ports, subnet) for kind, line in _INBOUND.items()}
    return _opened(facts, lines, ports, _cloud(facts.vendor, ports, subnet) if facts else ())


def outbound(facts: Facts | None, ports: Ports, subnet: str) -> Remedy:
    """Let TCP out to ``ports`` of ``subnet``."""
    return _opened(facts, {kind: line(ports, subnet) for kind, line in _OUTBOUND.items()}, ports)


def _opened(
    facts: Facts | None, lines: dict[str, Remedy], ports: Ports, cloud: tuple[str, ...] = ()
) -> Remedy:
    """The line of the host's own firewall, or all of them where nobody knows it. Clouds filter as well."""
    own = lines.get(facts.firewall) if facts else None
    if own is not None:
        return msgspec.structs.replace(own, instead=(*own.instead, *cloud))
    ways = tuple(f"with {kind}: {' && '.join(line.commands)}" for kind, line in lines.items())
    what = f"open TCP {'port' if ports[0] == ports[1] else 'ports'} {_range(ports, '-')}"
    return Remedy(advice=f"{what} in the firewall of the host or before it", instead=cloud, ways=ways)


def _cloud(vendor: str, ports: Ports, subnet: str) -> tuple[str, ...]:
    source = remedy.subnet(subnet)
    if vendor == "Google" and source:
        allow = f"tcp:{_range(ports, '-')}"
        rule = shell(
            "gcloud compute firewall-rules create clusterctl --allow={} --source-ranges={}",
            values=(allow, source),
        )
        return rule.commands
    return {
        "Amazon EC2": ("in the security group of these instances, allow TCP from the group itself",),
        "Google": ("in the VPC's firewall rules, allow TCP among these instances",),
        "Microsoft Corporation": (
            "in the network security group of these machines, allow TCP from their subnet",
        ),
    }.get(vendor, ())


def _family(subnet: str) -> int:
    return ip_network(subnet).version if remedy.subnet(subnet) else 4


def _ufw_in(ports: Ports, subnet: str) -> Remedy:
    source = remedy.subnet(subnet) if subnet else "any"
    return shell("sudo ufw allow proto tcp from {} to any port {}", values=(source, _range(ports, ":")))


def _ufw_out(ports: Ports, subnet: str) -> Remedy:
    target = remedy.subnet(subnet) if subnet else "any"
    return shell("sudo ufw allow out proto tcp to {} port {}", values=(target, _range(ports, ":")))


def _firewalld_in(ports: Ports, subnet: str) -> Remedy:
    source = f" source address={remedy.subnet(subnet)}" if subnet else ""
    family = "ipv6" if _family(subnet) == 6 else "ipv4"
    rule = f"rule family={family}{source} port port={_range(ports, '-')} protocol=tcp accept"
    return shell(
        f"sudo firewall-cmd --permanent --add-rich-rule='{rule}'",
        "sudo firewall-cmd --reload",
        values=() if not subnet or remedy.subnet(subnet) else (None,),
    )


def _firewalld_out(ports: Ports, subnet: str) -> Remedy:
    family = "ipv6" if _family(subnet) == 6 else "ipv4"
    target = " -d {}" if subnet else ""
    return shell(
        f"sudo firewall-cmd --permanent --direct --add-rule {family} filter OUTPUT 0 -p tcp{target} "
        "--dport {} -j ACCEPT",
        "sudo firewall-cmd --reload",
        values=((remedy.subnet(subnet),) if subnet else ()) + (_range(ports, ":"),),
    )


def _nft(chain: str, side: str, ports: Ports, subnet: str) -> Remedy:
    family = "ip6" if _family(subnet) == 6 else "ip"
    other = f" {family} {side} {{}}" if subnet else ""
    return shell(
        f"sudo nft insert rule inet filter {chain}{other} tcp dport {{}} accept",
        values=((remedy.subnet(subnet),) if subnet else ()) + (_range(ports, "-"),),
        instead=("where the table has another name: sudo nft list ruleset",),
        until_boot=True,
    )


def _iptables(chain: str, side: str, ports: Ports, subnet: str) -> Remedy:
    tool = "ip6tables" if _family(subnet) == 6 else "iptables"
    other = f" {side} {{}}" if subnet else ""
    return shell(
        f"sudo {tool} -I {chain} -p tcp{other} --dport {{}} -j ACCEPT",
        values=((remedy.subnet(subnet),) if subnet else ()) + (_range(ports, ":"),),
        until_boot=True,
    )


_INBOUND: dict[str, Callable[[Ports, str], Remedy]] = {
    "ufw": _ufw_in,
    "firewalld": _firewalld_in,
    "nft": lambda ports, subnet: _nft("input", "saddr", ports, subnet),
    "iptables": lambda ports, subnet: _iptables("INPUT", "-s", ports, subnet),
}
_OUTBOUND: dict[str, Callable[[Ports, str], Remedy]] = {
    "ufw": _ufw_out,
    "firewalld": _firewalld_out,
    "nft": lambda ports, subnet: _nft("output", "daddr", ports, subnet),
    "iptables": lambda ports, subnet: _iptables("OUTPUT", "-d", ports, subnet),
}


def _range(ports: Ports, sign: str) -> str:
    low, high = ports
    return str(low) if low == high else f"{low}{sign}{high}"
