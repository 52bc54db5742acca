from __future__ import annotations

from pathlib import Path

from clusterctl.checks.evaluate import RULES
from clusterctl.report.catalogue import FAMILIES, render


def test_the_page_is_what_the_rules_say() -> None:
    page = Path(__file__).parents[1] / "docs" / "checks.md"
    assert page.read_text() == render(), "run: python -m clusterctl.report.catalogue > docs/checks.md"


def test_no_rule_is_missing() -> None:
    assert [rule for _, rules in FAMILIES for rule in rules] == list(RULES)
