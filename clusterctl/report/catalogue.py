"""docs/checks.md, written from the rules themselves: ``python -m clusterctl.report.catalogue``."""

from __future__ import annotations

import sys

from clusterctl.checks.families import FAMILIES
from clusterctl.checks.remedy import remedy

_HEAD = """# What doctor checks

Written by `python -m clusterctl.report.catalogue > docs/checks.md`; do not edit by hand.

A check ends as pass, warn, fail, unknown or skip. Unknown is never a pass: the host answered but could not
tell. A skipped check says why (`doctor -v`). The severity below is what a check says when it fires; some say
less in milder cases.
"""


def render() -> str:
    """The whole page as Markdown."""
    parts = [_HEAD]
    for title, rules in FAMILIES:
        parts.append(
            f"\n## {title}\n\n| code | severity | looks at | without it, later | fix |\n|-|-|-|-|-|\n"
        )
        parts.extend(
            f"| `{rule.code}` | {rule.severity} | {_cell(rule.looks_at)} | {_cell(rule.symptom)} "
            f"| {_cell(remedy(rule.fix).text)} |\n"
            for rule in rules
        )
    return "".join(parts)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", "<br>")


if __name__ == "__main__":
    sys.stdout.write(render())
