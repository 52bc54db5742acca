"""The network: each host's interfaces, the settings that name them, and what passed between hosts."""

from __future__ import annotations

from clusterctl.checks.net import flows, interfaces, links, master_port, nccl, settings, traffic
from clusterctl.checks.rule import Rule

RULES: tuple[Rule, ...] = (
    *interfaces.RULES,
    *nccl.RULES,
    *links.RULES,
    *settings.RULES,
    *traffic.RULES,
    *flows.RULES,
    *master_port.RULES,
)
