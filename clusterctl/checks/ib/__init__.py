"""RDMA, where there is any."""

from __future__ import annotations

from clusterctl.checks.ib import nccl, ports
from clusterctl.checks.rule import Rule

RULES: tuple[Rule, ...] = (*ports.RULES, *nccl.RULES)
