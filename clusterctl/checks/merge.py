"""One cause on many hosts as one finding, though each host words it with its own names and numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from clusterctl.checks.finding import Finding

EACH_NAMED, SIDE_BY_SIDE = 3, 120
"""Up to so many texts of so many characters stand beside one another; else the first speaks for all."""


def one_finding(alike: Sequence[Finding], order: Sequence[str]) -> Finding:
    """All of ``alike``, which share code, severity and cause; its hosts in ``order``. HOST in a rule's fix
    becomes the first of them."""
    bearers = {host for finding in alike for host in finding.hosts}
    hosts = tuple(host for host in order if host in bearers)
    first = min(alike, key=lambda finding: hosts.index(finding.hosts[0]) if finding.hosts else 0)
    return msgspec.structs.replace(
        first,
        hosts=hosts,
        observed=_observed(alike, first, hosts),
        fix=re.sub(r"\bHOST\b", hosts[0], first.fix) if hosts else first.fix,
    )


def _observed(alike: Sequence[Finding], first: Finding, hosts: Sequence[str]) -> str:
    texts: dict[str, list[str]] = {}
    for finding in alike:
        texts.setdefault(finding.observed, []).extend(finding.hosts)
    if len(texts) == 1:
        return first.observed
    if len(hosts) == 1:
        joined = "; ".join(texts)
    else:
        joined = "; ".join(f"{', '.join(dict.fromkeys(named))}: {text}" for text, named in texts.items())
    if len(texts) <= EACH_NAMED and len(joined) <= SIDE_BY_SIDE:
        return joined
    others = len(hosts) - len(first.hosts)
    more = (
        f"alike on {others} other host{'s' * (others != 1)}"
        if others
        else f"and {len(texts) - 1} more like it"
    )
    return f"{first.observed} ({more})"
