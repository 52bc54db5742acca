"""What doctor found in one row against what it had to find, and the table made of many."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

Pair = tuple[str, str]
"""A code and a host that it names."""


@dataclass(frozen=True)
class Outcome:
    """``wanted`` and ``found`` are all above a note."""

    group: str
    name: str
    wanted: frozenset[Pair]
    found: frozenset[Pair]

    @property
    def missed(self) -> frozenset[Pair]:
        return self.wanted - self.found

    @property
    def wrong(self) -> frozenset[Pair]:
        return self.found - self.wanted

    @property
    def right(self) -> bool:
        return self.wanted == self.found

    def __str__(self) -> str:
        parts = [f"{self.group}: {self.name}"]
        parts += [f"missed {code} on {host}" for code, host in sorted(self.missed)]
        parts += [f"wrongly {code} on {host}" for code, host in sorted(self.wrong)]
        return "; ".join(parts)


def pairs(found: Mapping[str, str]) -> frozenset[Pair]:
    """From code -> hosts."""
    return frozenset((code, host) for code, hosts in found.items() for host in hosts.split())


def table(outcomes: Iterable[Outcome]) -> list[str]:
    """Markdown, a line for each group, in the order of their first rows."""
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(outcome.group, []).append(outcome)
    lines = [
        "| group | faults | found on the right hosts | recall | wrong | precision | healthy | clean |",
        "|-|-|-|-|-|-|-|-|",
    ]
    rows = [_line(name, those) for name, those in groups.items()]
    if len(groups) > 1:
        rows.append(_line("**all**", [outcome for those in groups.values() for outcome in those]))
    return lines + rows


def _line(name: str, outcomes: list[Outcome]) -> str:
    faults = [each for each in outcomes if each.wanted]
    healthy = [each for each in outcomes if not each.wanted]
    wanted = sum(len(each.wanted) for each in faults)
    hit = sum(len(each.wanted & each.found) for each in faults)
    wrong = sum(len(each.wrong) for each in outcomes)
    found = [each for each in faults if not each.missed]
    clean = [each for each in healthy if each.right]
    cells = [name, len(faults) or "", len(found) if faults else "", _share(hit, wanted)]
    cells += [wrong, _share(hit, hit + wrong), len(healthy) or "", len(clean) if healthy else ""]
    return f"| {' | '.join(map(str, cells))} |"


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.4g} %" if whole else ""
