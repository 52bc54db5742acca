"""Lines that open ports, in the words of the firewall that a host has."""

from __future__ import annotations

from clusterctl.facts.model import Facts

_CLOUD_RULE = {
    "Amazon EC2": "in the security group of these instances, allow TCP from the group itself",
    "Google": "gcloud compute firewall-rules create allow-internal --allow tcp --source-ranges {subnet}",
    "Microsoft Corporation": "in the network security group of these machines, allow TCP from the subnet",
}


def inbound(facts: Facts | None, ports: tuple[int, int], subnet: str) -> str:
    """Let TCP from ``subnet`` ("" is everybody) in to ``ports``. A second line where a cloud filters too."""
    low, high = ports
    kind = facts.firewall if facts else ""
    if kind == "ufw":
        line = f"sudo ufw allow proto tcp from {subnet or 'any'} to any port {_range(low, high, ':')}"
    elif kind == "firewalld":
        source = f" source address={subnet}" if subnet else ""
        rule = f"rule family=ipv4{source} port port={_range(low, high, '-')} protocol=tcp accept"
        line = f"sudo firewall-cmd --permanent --add-rich-rule='{rule}' && sudo firewall-cmd --reload"
    elif kind == "nft":
        source = f" ip saddr {subnet}" if subnet else ""
        line = f"sudo nft insert rule inet filter input{source} tcp dport {_range(low, high, '-')} accept"
    else:
        source = f" -s {subnet}" if subnet else ""
        line = f"sudo iptables -I INPUT -p tcp{source} --dport {_range(low, high, ':')} -j ACCEPT"
    cloud = _CLOUD_RULE.get(facts.vendor, "") if facts else ""
    return "\n".join(each for each in (line, cloud.format(subnet=subnet or "10.0.0.0/8")) if each)


def outbound(facts: Facts | None, ports: tuple[int, int], subnet: str) -> str:
    """Let TCP out to ``ports`` of ``subnet``."""
    low, high = ports
    kind = facts.firewall if facts else ""
    if kind == "ufw":
        return f"sudo ufw allow out proto tcp to {subnet or 'any'} port {_range(low, high, ':')}"
    if kind == "nft":
        target = f" ip daddr {subnet}" if subnet else ""
        return f"sudo nft insert rule inet filter output{target} tcp dport {_range(low, high, '-')} accept"
    target = f" -d {subnet}" if subnet else ""
    return f"sudo iptables -I OUTPUT -p tcp{target} --dport {_range(low, high, ':')} -j ACCEPT"


def _range(low: int, high: int, sign: str) -> str:
    return str(low) if low == high else f"{low}{sign}{high}"
