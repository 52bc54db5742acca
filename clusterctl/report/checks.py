"""What doctor can look at, for people: all rules by family, or one in full."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from clusterctl.checks.families import FAMILIES
from clusterctl.checks.remedy import remedy
from clusterctl.checks.rule import Rule
from clusterctl.report.findings import MARKS, fix_lines


def listing(name: str = "") -> RenderableType:
    """A line for each rule, under its family; with ``name`` those of that family or code only."""
    parts: list[RenderableType] = []
    for title, rules in FAMILIES:
        chosen = [rule for rule in rules if not name or rule.code.startswith(f"{name}.")]
        if not chosen:
            continue
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for rule in chosen:
            sign, style = MARKS[rule.severity]
            table.add_row(Text(sign, style), rule.code, Text(rule.looks_at, "dim"))
        parts += [Text()] * bool(parts) + [Text(title, "bold"), table]
    return Group(*parts)


def page(rule: Rule) -> RenderableType:
    """Everything that is known about one rule."""
    sign, style = MARKS[rule.severity]
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    rows = [
        ("looks at", rule.looks_at),
        ("severity", rule.severity),
        ("needs", ", ".join(rule.needs)),
        ("leads to", rule.symptom),
        *fix_lines(remedy(rule.fix).text),
    ]
    for label, text in rows:
        if text:
            grid.add_row(f"    {label}", Text(text))
    return Group(Text(f"{sign} {rule.code}", style), grid)
