"""The GPUs behind the selected slots: their driver, who uses them, and how they are."""

from __future__ import annotations

from clusterctl.checks.gpu import cards, driver, health, kernel
from clusterctl.checks.rule import Rule

RULES: tuple[Rule, ...] = (*driver.RULES, *cards.RULES, *health.RULES, *kernel.RULES)
