"""A hostfile of the hosts that a report calls ready."""

from __future__ import annotations

from clusterctl.checks.evaluate import Report
from clusterctl.inventory.model import Host, Inventory
from clusterctl.report.harmless import harmless

_WIDEST = 100


def hostfile(inventory: Inventory, report: Report, taken: str) -> str:
    """Slots as the hostfile gave them, and comments: when, and who was left out and why. "" where no host is
    ready."""
    ready = [host for host in inventory.hosts if report.hosts[host.name] == "ready"]
    if not ready:
        return ""
    count = f"{len(ready)} of {len(inventory.hosts)} hosts of {_one_line(inventory.source)}"
    lines = [f"# clusterctl doctor, {taken}: {count} are ready"]
    lines += [
        f"# left out: {host.name}: {_reason(host.name, report)}"
        for host in inventory.hosts
        if report.hosts[host.name] != "ready"
    ]
    return "\n".join([*lines, *map(_entry, ready)]) + "\n"


def _entry(host: Host) -> str:
    """A hostfile can say how many slots, not which: of a choice among them only a comment remains."""
    count = len(host.slots)
    if host.slots == tuple(range(count)):
        return f"{host.name} slots={count}"
    chosen = ",".join(map(str, host.slots))
    return f"{host.name} slots={host.declared_slots}  # examined: -i {host.name}:{chosen}"


def _reason(host: str, report: Report) -> str:
    for finding in report.findings:  # worst first
        if host in finding.hosts and finding.severity in ("fail", "unknown"):
            return f"{finding.code}: {_one_line(finding.observed)}"
    return "no answer"


def _one_line(text: str) -> str:
    line = " ".join(harmless(text).split())
    return line if len(line) <= _WIDEST else f"{line[: _WIDEST - 1]}…"
