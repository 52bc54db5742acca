"""What doctor says, for programs: the schema ``clusterctl.doctor/1``."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from clusterctl.checks.evaluate import Report
from clusterctl.facts.e2e import Proof
from clusterctl.facts.model import Facts, Reachability
from clusterctl.inventory.model import Inventory
from clusterctl.network import flows
from clusterctl.network.model import Network
from clusterctl.plan import activation
from clusterctl.plan.variables import shown

SCHEMA = "clusterctl.doctor/1"
NOT_ASKED = Proof()
NO_TRAFFIC = Reachability()


def encode(
    inventory: Inventory,
    facts: Mapping[str, Facts],
    network: Network,
    report: Report,
    seconds: float,
    *,
    reachability: Reachability = NO_TRAFFIC,
    proof: Proof = NOT_ASKED,
) -> str:
    """One JSON object, indented. A host that gave no answer has ``facts`` null. Secret values are hidden."""
    document = {
        "schema": SCHEMA,
        "verdict": report.verdict,
        "hosts": {
            entry.name: {
                "rank": rank,
                "slots": len(entry.slots),
                "verdict": report.hosts[entry.name],
                "facts": _printable(facts.get(entry.name)),
            }
            for rank, entry in enumerate(inventory.hosts)
        },
        "network": {
            entry.host: {"ifname": entry.ifname, "address": entry.address, "env": entry.env}
            for entry in network.hosts
        },
        "traffic": _traffic(network, reachability),
        "proof": proof,
        "findings": report.findings,
        "checks": report.checks,
        "seconds": round(seconds, 3),
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode()


def _traffic(network: Network, reachability: Reachability) -> dict[str, object]:
    """What was measured in the chosen network. ``lost`` is of packets that were sent to look for that."""
    dials = flows.measured(reachability.dials, {entry.host: entry.address for entry in network.hosts})
    hosts: dict[str, dict[str, object]] = {}
    for (host, direction), side in sorted(flows.sides(dials).items()):
        told = {"bits_per_second": side.rate, "packets": side.packets, "lost": side.again}
        hosts.setdefault(host, {})["sends" if direction == "out" else "receives"] = told
    pairs = [
        {
            "source": dial.source,
            "target": dial.target,
            "bits_per_second": flows.rate(dial.flow),
            "round_trip": dial.flow.shortest,
            "sent_again": dial.flow.again,
            "packets": dial.flow.packets,
        }
        for dial in dials
        if dial.flow and dial.bulk
    ]
    return {"hosts": hosts, "pairs": pairs}


def _printable(facts: Facts | None) -> Facts | None:
    if facts is None or facts.activation is None:
        return facts
    variables = {each.name: shown(each) for each in activation.settings(facts, "")}
    return msgspec.structs.replace(
        facts, activation=msgspec.structs.replace(facts.activation, variables=variables)
    )
