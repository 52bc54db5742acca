"""One cause on many hosts as one finding, though each host words it with its own names and numbers."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from clusterctl.checks.finding import Finding
from clusterctl.checks.remedy import Remedy
from clusterctl.inventory.fold import fold

EACH_NAMED, SIDE_BY_SIDE = 3, 120
"""Up to so many texts of so many characters stand beside one another; else the first speaks for all."""


_OTHERS, _EACH = "for others: clusterctl doctor --fix", "for each: clusterctl doctor --fix"


class Told(msgspec.Struct, frozen=True):
    """What a rule said of some hosts, and the cure there."""

    finding: Finding
    remedy: Remedy


def one_finding(told: Sequence[Told], order: Sequence[str]) -> Finding:
    """All of ``told``, which share code, severity and cause; its hosts in ``order``."""
    bearers = {host for each in told for host in each.finding.hosts}
    hosts = tuple(host for host in order if host in bearers)
    place = {host: number for number, host in enumerate(hosts)}
    in_order = sorted(told, key=lambda each: min((place[host] for host in each.finding.hosts), default=0))
    first = in_order[0].finding
    return msgspec.structs.replace(
        first,
        hosts=hosts,
        observed=_observed([each.finding for each in told], first, hosts),
        fix=_fix(in_order, hosts),
    )


def _fix(told: Sequence[Told], hosts: Sequence[str]) -> str:
    """The first that can be typed; where hosts need other words than the first, that is said."""
    typed = [each for each in told if each.remedy.commands]
    if len(hosts) == 1 and len(typed) > 1:
        here = dict.fromkeys(each.remedy.at(hosts[0]).text for each in typed)
        return "\nthen ".join(here) if len(here) <= EACH_NAMED else "\n".join((next(iter(here)), _OTHERS))
    chosen = (typed or told)[0]
    text = chosen.remedy.at(chosen.finding.hosts[0] if chosen.finding.hosts else "").text
    if len({each.remedy.commands for each in typed}) > 1 and len(hosts) > 1:
        text += f"\n{_OTHERS if chosen is told[0] else _EACH}"
    return text


def _observed(alike: Sequence[Finding], first: Finding, hosts: Sequence[str]) -> str:
    texts: dict[str, list[str]] = {}
    for finding in alike:
        texts.setdefault(finding.observed, []).extend(finding.hosts)
    if len(texts) == 1:
        return first.observed
    if len(hosts) == 1:
        joined = "; ".join(texts)
    else:
        joined = "; ".join(f"{fold(dict.fromkeys(named))}: {text}" for text, named in texts.items())
    if len(texts) <= EACH_NAMED and len(joined) <= SIDE_BY_SIDE:
        return joined
    others = len(hosts) - len(first.hosts)
    more = (
        f"alike on {others} other host{'s' * (others != 1)}"
        if others
        else f"and {len(texts) - 1} more like it"
    )
    return f"{first.observed} ({more})"
