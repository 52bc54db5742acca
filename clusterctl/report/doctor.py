"""What doctor says, for people: hosts, findings worst first, the network, and one line to act on."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from clusterctl.checks.evaluate import Report
from clusterctl.checks.finding import CheckResult
from clusterctl.facts.model import Facts, Reachability
from clusterctl.inventory.model import Inventory
from clusterctl.network import flows
from clusterctl.network.model import Network
from clusterctl.report import findings, hosts
from clusterctl.report.findings import brief

MOST_EXCLUDED = 64
"""More than these are no command to paste any more."""

NO_TRAFFIC = Reachability()

_SHOWN_ELSEWHERE = frozenset({"net.choice", "net.same-name"})
"""Notes that the network's own line already tells."""


def render(
    inventory: Inventory,
    facts: Mapping[str, Facts],
    network: Network,
    report: Report,
    *,
    width: int,
    verbose: bool = False,
    launch: str = "clusterctl launch",
    reachability: Reachability = NO_TRAFFIC,
) -> RenderableType:
    """The whole report, fitted to ``width``; print it uncropped, as commands to paste are never broken.

    ``launch`` is the command to suggest, with its hostfile option. ``reachability`` is what ``verbose`` tells
    how fast data got through.
    """
    total = len(inventory.hosts)
    shown = [
        finding
        for finding in report.findings
        if finding.severity != "info" or finding.code not in _SHOWN_ELSEWHERE
    ]
    parts: list[RenderableType] = [
        hosts.render(inventory, facts, network, report, width=width),
        Text(),
    ]
    if shown:
        parts += [findings.render(shown, hosts=total), Text()]
    if verbose:
        parts += [_checks(report, total), Text(), *_speeds(network, reachability)]
    if network.hosts:
        blocked = any(finding.severity == "fail" for finding in shown if finding.code.startswith("net."))
        parts.append(_network(network, "see above" if blocked else "by subnet; no traffic was sent"))
    parts.append(verdict(inventory, report, launch))
    return Group(*parts)


def _speeds(network: Network, reachability: Reachability) -> tuple[RenderableType, ...]:
    """A line for each host; hosts with the same figures share one."""
    addresses = {entry.host: entry.address for entry in network.hosts}
    sides = flows.sides(flows.measured(reachability.dials, addresses))
    alike: defaultdict[tuple[str, str, str], list[str]] = defaultdict(list)
    for host in addresses:
        ways = [sides.get((host, "out")), sides.get((host, "in"))]
        rates = [flows.in_words(side.rate) if side and side.rate else "–" for side in ways]
        lost = [f"{side.loss:.1%}" for side in ways if side and side.packets]
        if any(ways):
            alike[rates[0], rates[1], " and ".join(lost)].append(host)
    if not alike:
        return ()
    grid = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim", style="dim")
    for name in ("traffic", "sent, at best", "received, at best", "lost"):
        grid.add_column(name, overflow="fold")
    for (sent, received, share), hosts_alike in alike.items():
        grid.add_row(brief(hosts_alike), sent, received, share or "not looked for")
    return (grid, Text())


def _network(network: Network, unproven: str) -> RenderableType:
    """``network 10.0.0.0/24 (traffic proven both ways): eno1 on node1, enp5s0 on node[2-4]``."""
    by_name: defaultdict[str, list[str]] = defaultdict(list)
    for entry in network.hosts:
        by_name[entry.ifname].append(entry.host)
    places = (
        f"{next(iter(by_name))} on every host"
        if len(by_name) == 1 and len(network.hosts) > 1 and not network.problem
        else ", ".join(f"{name} on {brief(on)}" for name, on in by_name.items())
    )
    proof = ""
    if len(network.hosts) > 1:
        proof = " (traffic proven both ways)" if network.proven else f" ({unproven})"
    line = Text.assemble((network.subnet, "bold"), (proof, "dim"), f": {places}")
    for other in network.alternatives:
        if other.subnet != network.subnet and other.reason != "loopback":  # two cards in one: net.dual-subnet
            how = "also possible" if other.proven or not network.proven else "not usable"
            line.append(f"; {how}: {other.subnet} ({other.reason})", style="dim")
    row = Table.grid(padding=(0, 2, 0, 0))
    row.add_column(style="dim", no_wrap=True)
    row.add_column(overflow="fold")
    row.add_row("network", line)
    return row


def verdict(inventory: Inventory, report: Report, launch: str) -> Text:
    """The last line: how many are ready, and what to type."""
    mark, style = {"ready": ("✓", "bold green"), "unknown": ("?", "bold magenta")}.get(
        report.verdict, ("✗", "bold red")
    )
    line, after, command = ready_words(inventory, report, launch)
    line += f"; {after} {command}" if after and command else f": {after or command}"
    return Text(f"{mark} {line}", style=style, no_wrap=True, overflow="ignore")


def ready_words(inventory: Inventory, report: Report, launch: str) -> tuple[str, str, str]:
    """(how many are ready, what to do in words, what to type); one of the last two may be empty."""
    total, ready = len(inventory.hosts), len(report.ready)
    counts = Counter(finding.severity for finding in report.findings)
    noted = f" with {counts['warn']} warning{'s' * (counts['warn'] != 1)}" if counts["warn"] else ""
    hosts_word = "host" if total == 1 else "hosts"
    if report.verdict == "ready":
        return f"{ready} of {total} {hosts_word} ready{noted}", "", launch
    unknown = [host for host, verdict in report.hosts.items() if verdict == "unknown"]
    line = f"{ready} of {total} {hosts_word} ready"
    if unknown:
        line += f", {len(unknown)} unknown"
    others = [host for host, verdict in report.hosts.items() if verdict != "ready"]
    if ready and others and len(others) <= MOST_EXCLUDED:
        excluded = "@".join(others)
        other = "the other" if len(others) == 1 else "the others"
        return line, f"launch without {other}:", f"{launch} --exclude {excluded}"
    return line, "mend what is marked, then run doctor again", ""


def _checks(report: Report, total: int) -> RenderableType:
    """What was looked at, and what was not and why: a check that ran is told from one that did not."""
    passed = [check.code for check in report.checks if check.status == "pass" and len(check.hosts) == total]
    partly = [check for check in report.checks if check.status == "unknown"]
    reasons: defaultdict[tuple[str, tuple[str, ...]], list[str]] = defaultdict(list)
    for check in partly:
        reasons[check.reason, check.hosts].append(check.code)
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(style="dim", overflow="fold")
    grid.add_row("passed", ", ".join(passed) or "none")
    for (reason, on), codes in reasons.items():
        grid.add_row("unknown", f"{brief(on)}: {reason} ({', '.join(codes)})")
    for reason, codes in _skipped(report.checks).items():
        grid.add_row("skipped", f"{reason} ({', '.join(codes)})")
    return grid


def _skipped(checks: tuple[CheckResult, ...]) -> dict[str, list[str]]:
    grouped: defaultdict[str, list[str]] = defaultdict(list)
    for check in checks:
        if check.status == "skip":
            grouped[check.reason].append(check.code)
    return dict(grouped)
