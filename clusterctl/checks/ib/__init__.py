"""RDMA, where there is any."""

from __future__ import annotations

from clusterctl.checks.ib import links, nccl, places, ports
from clusterctl.checks.rule import Rule

RULES: tuple[Rule, ...] = (*ports.RULES, *links.RULES, *nccl.RULES, *places.RULES)
