"""One row for each host: what it has, which address it gets, and whether it may train.

Columns that hold one value on all hosts move into a line below when the screen is narrow; a value that
deviates from the majority is marked with ≠ and coloured.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import msgspec
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from clusterctl.checks.evaluate import Report
from clusterctl.checks.finding import Severity
from clusterctl.facts.model import Facts
from clusterctl.inventory.fold import fold
from clusterctl.inventory.model import Inventory
from clusterctl.network.model import Network
from clusterctl.report.findings import brief
from clusterctl.report.harmless import harmless

FOLD_FROM = 25
"""From this many hosts on, rows that say the same are one row."""

_GAP = 2
_LONGEST_RANKS = 12
_FOLDABLE = ("driver", "NCCL", "python", "torch")
_COMPARED = frozenset((*_FOLDABLE, "GPU", "CPU"))
_MARKS = {
    "ready": ("✓", "green"),
    "warned": ("!", "yellow"),
    "unknown": ("?", "magenta"),
    "not-ready": ("✗", "red"),
}


_LONGEST_HOSTS = 28
"""Of many hosts the findings tell which; a column that is wider pushes the others over several lines."""


class _Row(msgspec.Struct, frozen=True):
    mark: str
    rank: int
    host: str
    cells: dict[str, str]


def render(
    inventory: Inventory, facts: Mapping[str, Facts], network: Network, report: Report, *, width: int
) -> RenderableType:
    """The table, fitted to ``width`` columns, and below it what all hosts have in common."""
    rows = _rows(inventory, facts, network, report)
    columns = [name for name in _columns(facts) if any(row.cells.get(name) for row in rows)]
    usual = {name: _majority(name, rows) for name in columns}
    shared: list[tuple[str, str]] = []
    groups = _folded(rows) if len(rows) >= FOLD_FROM else [[row] for row in rows]
    for name in _FOLDABLE:
        values = {row.cells[name] for row in rows if row.cells.get(name)}
        if name in columns and len(values) == 1 and _width(columns, groups) > width:
            columns.remove(name)
            shared.append((name, values.pop()))
    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="dim", expand=False)
    table.add_column("")
    table.add_column("rank", justify="right")
    table.add_column("host", overflow="fold")
    for name in columns:
        table.add_column(name, justify="right" if name == "slots" else "left", overflow="fold")
    for group in groups:
        table.add_row(*_cells(group, columns, usual))
    if not shared:
        return table
    text = Text("all hosts: " if len(facts) == len(inventory.hosts) else "all that answered: ", style="dim")
    text.append(", ".join(f"{name} {value}" for name, value in reversed(shared)), style="dim")
    return Group(table, text)


def software(facts: Facts) -> dict[str, str]:
    """What is compared between hosts, by name; empty where a host has none."""
    return {name: harmless(read(facts)) for name, read in _READERS.items()}


def _columns(facts: Mapping[str, Facts]) -> tuple[str, ...]:
    device = "GPU" if any(of_host.nvidia.gpus for of_host in facts.values()) else "CPU"
    return ("slots", device, "driver", "python", "torch", "NCCL", "interface", "address")


def _rows(inventory: Inventory, facts: Mapping[str, Facts], network: Network, report: Report) -> list[_Row]:
    worst: dict[str, set[Severity]] = {host: set() for host in inventory.names}
    for finding in report.findings:
        for host in finding.hosts:
            worst[host].add(finding.severity)
    rows = []
    for rank, entry in enumerate(inventory.hosts):
        verdict: str = report.hosts[entry.name]
        mark = "warned" if verdict == "ready" and "warn" in worst[entry.name] else verdict
        cells = {"slots": str(len(entry.slots))}
        of_host = facts.get(entry.name)
        chosen = network.of(entry.name)
        if of_host is not None:
            cells |= software(of_host)
        if chosen is not None:
            cells |= {"interface": chosen.ifname, "address": chosen.address}
        rows.append(_Row(mark, rank, entry.name, cells))
    return rows


def _gpus(facts: Facts) -> str:
    counted = Counter(gpu.name.removeprefix("NVIDIA ").strip() for gpu in facts.nvidia.gpus)
    return " + ".join(f"{count}× {name}" for name, count in counted.items()) or "none"


def _torch(facts: Facts) -> str:
    version = facts.python.packages.get("torch", "")
    if not version or "+" in version or facts.python.torch_cuda is None:
        return version or "none"
    return (
        f"{version}+cu{facts.python.torch_cuda.replace('.', '')}"
        if facts.python.torch_cuda
        else f"{version}+cpu"
    )


_READERS: dict[str, Callable[[Facts], str]] = {
    "GPU": _gpus,
    "CPU": lambda facts: f"{facts.cpus} core" + "s" * (facts.cpus != 1),
    "driver": lambda facts: facts.nvidia.kernel_driver or next((gpu.driver for gpu in facts.nvidia.gpus), ""),
    "python": lambda facts: facts.python.version or "none",
    "torch": _torch,
    "NCCL": lambda facts: facts.torch.nccl_version if facts.torch and facts.nvidia.gpus else "",
}


def _majority(name: str, rows: Sequence[_Row]) -> str | None:
    """The value most rows hold; None where two are equally frequent or the column is not compared."""
    ranked = Counter(row.cells[name] for row in rows if row.cells.get(name)).most_common(2)
    tied = len(ranked) == 2 and ranked[0][1] == ranked[1][1]
    return ranked[0][0] if ranked and not tied and name in _COMPARED else None


def _folded(rows: Sequence[_Row]) -> list[list[_Row]]:
    """Rows that differ in rank, name and address only, together."""
    groups: dict[tuple[object, ...], list[_Row]] = {}
    for row in rows:
        same = tuple((name, value) for name, value in row.cells.items() if name != "address")
        groups.setdefault((row.mark, same), []).append(row)
    return list(groups.values())


def _cells(group: Sequence[_Row], columns: Sequence[str], usual: Mapping[str, str | None]) -> list[Text]:
    first = group[0]
    sign, style = _MARKS[first.mark]
    cells = [
        Text(sign, style=f"bold {style}"),
        Text(_rank(group), style="dim"),
        Text(_host(group), style="bold"),
    ]
    for name in columns:
        value = _value(group, name)
        expected = usual[name]
        if not value:
            cells.append(Text("–", style="dim"))
        elif expected is not None and value != expected:
            cells.append(Text(f"≠ {value}", style="bold yellow"))
        else:
            cells.append(Text(value, style="" if name in ("slots", "interface", "address") else "dim"))
    return cells


def _rank(group: Sequence[_Row]) -> str:
    if len(group) == 1:
        return str(group[0].rank)
    ranks = fold(str(row.rank) for row in group).strip("[]")
    return ranks if len(ranks) <= _LONGEST_RANKS else f"{group[0].rank},…"


def _host(group: Sequence[_Row]) -> str:
    return brief((row.host for row in group), _LONGEST_HOSTS)


def _value(group: Sequence[_Row], name: str) -> str:
    value = group[0].cells.get(name, "")
    return f"{value} …" if name == "address" and len(group) > 1 and value else value


def _width(columns: Sequence[str], groups: Sequence[Sequence[_Row]]) -> int:
    """Characters the table takes when nothing is wrapped."""
    widths = [1, max(4, *(len(_rank(group)) for group in groups)), max(len(_host(group)) for group in groups)]
    for name in columns:
        mark = 2 * (name in _COMPARED and len({_value(group, name) for group in groups}) > 1)
        widths.append(max(len(name), *(len(_value(group, name)) + mark for group in groups)))
    return sum(widths) + _GAP * (len(widths) - 1)
