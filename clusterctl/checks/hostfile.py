"""Lines of the hostfile that read otherwise than they look."""

from __future__ import annotations

from collections.abc import Iterator

from clusterctl.checks.rule import Evidence, Hit, Rule, Verdict


def _hostfile_lines(evidence: Evidence) -> Iterator[Verdict]:
    for warning in evidence.inventory.warnings:
        yield Hit(hosts=(), observed=f"{warning.where}: {warning.message}", fix=warning.hint)


RULES: tuple[Rule, ...] = (
    Rule(
        code="hostfile.line",
        severity="warn",
        looks_at="lines of the hostfile that DeepSpeed accepts but reads otherwise than they look",
        judge=_hostfile_lines,
        symptom="a host or a slot count is taken other than meant",
        fix="correct the line",
    ),
)
