"""Software: the same on all hosts, and what the profile expects."""

from __future__ import annotations

from clusterctl.checks.rule import Rule
from clusterctl.checks.sw import environment, nccl, packages, system

RULES: tuple[Rule, ...] = (*packages.RULES, *nccl.RULES, *environment.RULES, *system.RULES)
