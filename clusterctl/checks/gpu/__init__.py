"""The GPUs behind the selected slots: their driver, who uses them, and how they are."""

from __future__ import annotations

from clusterctl.checks.gpu import alike, at_work, cards, driver, health, kernel, nodes, settings
from clusterctl.checks.rule import Rule

RULES: tuple[Rule, ...] = (
    *driver.RULES,
    *nodes.RULES,
    *cards.RULES,
    *alike.RULES,
    *health.RULES,
    *settings.RULES,
    *kernel.RULES,
    *at_work.RULES,
)
