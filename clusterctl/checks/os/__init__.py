"""The operating system under a run: disks, limits of a session, memory and cores, and what disturbs them."""

from __future__ import annotations

from clusterctl.checks.os import disks, limits, machine, shared
from clusterctl.checks.rule import Rule

RULES: tuple[Rule, ...] = (*disks.RULES, *limits.RULES, *machine.RULES, *shared.RULES)
