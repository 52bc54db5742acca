"""Hosts that gave no facts, judged by the stage their session broke at."""

from __future__ import annotations

from collections.abc import Iterator

from clusterctl.checks.rule import Evidence, Hit, Judge, Passed, Verdict

_STAGES = ("resolve", "connect", "banner", "hostkey", "auth", "exec", "python", "deadline", "decode")
"""In the order a session passes through them."""


def breaks_at(*stages: str) -> Judge:
    """Fails the hosts whose session broke there, and passes those whose session got beyond."""
    last = max(_STAGES.index(stage) for stage in stages)

    def judge(evidence: Evidence) -> Iterator[Verdict]:
        for failure in evidence.failures:
            if failure.stage in stages:
                yield Hit(hosts=(failure.host,), observed=failure.message, fix=failure.hint)
            elif failure.stage in _STAGES and _STAGES.index(failure.stage) > last:
                yield Passed(failure.host)

    return judge
