"""End to end: what was proven by doing it."""

from __future__ import annotations

from clusterctl.checks.e2e import bandwidth, gloo, nccl
from clusterctl.checks.rule import Rule

RULES: tuple[Rule, ...] = (*gloo.RULES, *bandwidth.RULES, *nccl.RULES)
