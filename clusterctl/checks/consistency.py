"""One value on all hosts: who deviates, from what, and by how many it is held."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping

from clusterctl.checks.finding import Severity
from clusterctl.checks.rule import Hit
from clusterctl.facts.versions import satisfies


def deviations(values: Mapping[str, str], *, of: str = "", severity: Severity | None = None) -> Iterator[Hit]:
    """One hit for each value that is not the majority's, with all its hosts; ``of`` names the thing.

    Without a majority (one host each way) nobody can say who is wrong: one hit with every host.
    """
    holders: defaultdict[str, list[str]] = defaultdict(list)
    for host, value in values.items():
        holders[value].append(host)
    if len(holders) < 2:
        return
    ranked = sorted(holders.items(), key=lambda item: -len(item[1]))
    (usual, most), second = ranked[0], ranked[1][1]
    if len(most) == len(second):
        parts = [f"{', '.join(hosts[:3])}{' …' * (len(hosts) > 3)}: {value}" for value, hosts in ranked]
        yield Hit(
            hosts=tuple(values),
            observed=_named(of, "; ".join(parts)),
            expected="the same on all hosts",
            severity=severity,
        )
        return
    for value, hosts in ranked[1:]:
        yield Hit(
            hosts=tuple(hosts),
            observed=_named(of, value),
            expected=f"{_named(of, usual)}, as on {len(most)} of {len(values)} hosts",
            severity=severity,
        )


def middle_of_others(values: Mapping[str, float]) -> dict[str, float]:
    """Host -> the (lower) median of what all other hosts have; nothing where there are no others."""
    ranked = sorted(values.values())
    if len(ranked) < 2:
        return {}
    middle = (len(ranked) - 2) // 2
    places = {host: bisect_left(ranked, value) for host, value in values.items()}
    return {host: ranked[middle if middle < place else middle + 1] for host, place in places.items()}


def unlike(
    values: Mapping[str, str], wanted: str, *, of: str = "", severity: Severity | None = None
) -> Iterator[Hit]:
    """One hit for each value that is not what the profile expects."""
    holders: defaultdict[str, list[str]] = defaultdict(list)
    for host, value in values.items():
        if not satisfies(value, wanted):
            holders[value].append(host)
    for value, hosts in holders.items():
        yield Hit(
            hosts=tuple(hosts),
            observed=_named(of, value),
            expected=f"{_named(of, wanted)}, by the profile",
            severity=severity,
        )


def _named(of: str, value: str) -> str:
    return f"{of} {value}" if of else value
