"""Hosts that gave no facts, judged by the stage their session broke at."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from clusterctl.checks.remedy import Fix, path, remedy, safe
from clusterctl.checks.rule import Evidence, Hit, Judge, NoAnswer, Passed, Verdict
from clusterctl.checks.safe import CloseKey

_STAGES = (
    "resolve",
    "connect",
    "dropped",
    "banner",
    "path",
    "hostkey",
    "auth",
    "exec",
    "python",
    "deadline",
    "decode",
)
"""In the order a session passes through them."""


_OF_ONE_HOST = re.compile(r"'[^']*'|\S*[\d/@]\S*")
"""Names in quotes, addresses, ports, paths and times: what a sentence about one host has of its own."""


def _cause(failure: NoAnswer) -> str:
    """The sentence without what is the host's own: hosts that broke alike are one finding."""
    return f"{failure.stage}: {_OF_ONE_HOST.sub('', failure.message.replace(failure.host, ''))}"


def _fix(failure: NoAnswer) -> Fix:
    keys = [path(key) for key in failure.open_keys]
    if keys and None not in keys:
        other = failure.hint.partition("; or ")[2]
        return safe(*(CloseKey(key) for key in keys if key), instead=(other,) if other else ())
    if not failure.hint:
        return ""
    first, *others = failure.hint.split("; or ")
    return msgspec.structs.replace(remedy(first), where="here", instead=tuple(others))


def breaks_at(*stages: str) -> Judge:
    """Fails the hosts whose session broke there, and passes those whose session got beyond."""
    last = max(_STAGES.index(stage) for stage in stages)

    def judge(evidence: Evidence) -> Iterator[Verdict]:
        for failure in evidence.failures:
            if failure.stage in stages:
                yield Hit(
                    hosts=(failure.host,), observed=failure.message, fix=_fix(failure), cause=_cause(failure)
                )
            elif failure.stage in _STAGES and _STAGES.index(failure.stage) > last:
                yield Passed(failure.host)

    return judge
