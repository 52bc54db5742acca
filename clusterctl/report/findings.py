"""One renderer for every Finding, whoever made it: doctor, lint or why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from clusterctl.checks.finding import Finding, Severity
from clusterctl.inventory.fold import fold

MARKS: dict[Severity, tuple[str, str]] = {
    "fail": ("✗", "bold red"),
    "unknown": ("?", "bold magenta"),
    "warn": ("!", "bold yellow"),
    "info": ("·", "dim"),
}
"""Severity -> sign and style; the signs alone tell them apart where there is no colour."""

_LABEL = 10
_LONGEST = 48
_COMMANDS = frozenset(
    {"clusterctl", "chmod", "dmesg", "du", "echo", "ethtool", "gcloud", "ibstat", "ip", "mkdir", "mv"}
    | {"nvidia-smi", "perfquery", "pip", "ps", "rm", "ssh", "ssh-copy-id", "ssh-keygen", "sudo", "systemctl"}
    | {"tracepath"}
)


def render(findings: Sequence[Finding], *, hosts: int) -> RenderableType:
    """Problems first, each with its fix, then notes of one line each. ``hosts`` is how many there are."""
    problems = [finding for finding in findings if finding.severity != "info"]
    notes = [finding for finding in findings if finding.severity == "info"]
    parts: list[RenderableType] = []
    for finding in problems:
        parts += [Text()] * bool(parts)
        parts += _problem(finding, hosts)
    if notes:
        parts += [Text()] * bool(parts)
        parts.append(_notes(notes, hosts))
    return Group(*parts)


def hosts_text(names: Iterable[str], total: int) -> str:
    """``all 4 hosts``, or the names folded."""
    chosen = tuple(names)
    return f"all {total} hosts" if len(chosen) == total > 1 else brief(chosen)


def brief(names: Iterable[str], longest: int = _LONGEST) -> str:
    """The names folded, and cut where even that is long: ``node[1,3,5,… (512 hosts)``."""
    chosen = tuple(names)
    folded = fold(chosen)
    if len(folded) <= longest:
        return folded
    count = f"… ({len(chosen)} hosts)"
    return folded[: max(longest - len(count), 8)] + count


def _problem(finding: Finding, total: int) -> Iterator[RenderableType]:
    sign, style = MARKS[finding.severity]
    title = Text.assemble((f"{sign} {finding.code}", style))
    if finding.hosts:
        title.append(f"  {hosts_text(finding.hosts, total)}", style="bold")
    yield title
    yield from _labelled("found", finding.observed)
    yield from _labelled("expected", finding.expected)
    yield from _labelled("leads to", finding.symptom)
    for label, line in fix_lines(finding.fix):
        if _is_command(line):
            yield Text.assemble(
                (f"    {label:<{_LABEL}}", "dim"), (line, "cyan"), no_wrap=True, overflow="ignore"
            )
        else:
            yield from _labelled(label, line)


def fix_lines(fix: str) -> Iterator[tuple[str, str]]:
    """(label, line): what to do first, what ``then``, and the other ways."""
    for number, line in enumerate(fix.splitlines()):
        first, _, rest = line.partition(" ")
        if number and first == "then":
            yield first, rest
        elif number and line.startswith("for "):
            yield "", line
        else:
            yield ("or" if number else "fix"), line


def _labelled(label: str, text: str) -> Iterator[RenderableType]:
    if text:
        row = Table.grid(padding=0)
        row.add_column(style="dim", min_width=_LABEL + 4, no_wrap=True)
        row.add_column(overflow="fold")
        row.add_row(f"    {label}", Text(text))
        yield row


def _is_command(line: str) -> bool:
    """A line to paste must not be broken over two."""
    first = line.split(maxsplit=1)[0] if line else ""
    return first in _COMMANDS or first.startswith("/")


def _notes(notes: Sequence[Finding], total: int) -> RenderableType:
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold", style="dim")
    for note in notes:
        where = "" if len(note.hosts) == total else f"{brief(note.hosts)}: "
        grid.add_row(MARKS["info"][0], f"{where}{note.observed}  ({note.code})")
    return grid
