"""Software: the same on all hosts, and what the profile expects."""

from __future__ import annotations

from clusterctl.checks.rule import Rule
from clusterctl.checks.sw import environment, interpreter, nccl, packages, system, torch

RULES: tuple[Rule, ...] = (
    *interpreter.RULES,
    *torch.RULES,
    *packages.RULES,
    *nccl.RULES,
    *environment.RULES,
    *system.RULES,
)
