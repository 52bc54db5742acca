from __future__ import annotations

from pathlib import Path

from clusterctl.report.catalogue import render


def test_the_page_is_what_the_rules_say() -> None:
    page = Path(__file__).parents[1] / "docs" / "checks.md"
    assert page.read_text() == render(), "run: python -m clusterctl.report.catalogue > docs/checks.md"
