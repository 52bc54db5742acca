"""What doctor says as JUnit XML, which CI systems read: a test case for each check and host. Pure."""

from __future__ import annotations

from xml.etree import ElementTree

from clusterctl.checks.evaluate import Report
from clusterctl.checks.finding import Finding
from clusterctl.report.harmless import harmless

_ALL = "cluster"
_COUNTED = {"failures": "failure", "errors": "error", "skipped": "skipped"}


def encode(report: Report, seconds: float) -> str:
    """A suite for each family of checks. A failed check is a failure of its hosts, one that could not be
    asked an error; warnings and notes pass, with their text as output."""
    found = {  # of several, the worst: they come first
        (each.code, host): each for each in reversed(report.findings) for host in each.hosts or (_ALL,)
    }
    families: dict[str, list[ElementTree.Element]] = {}
    for check in report.checks:
        family = check.code.partition(".")[0]
        for host in check.hosts or (_ALL,):
            case = ElementTree.Element("testcase", classname=family, name=f"{check.code} {harmless(host)}")
            _judge(case, check.status, check.reason, found.get((check.code, host)))
            families.setdefault(family, []).append(case)
    root = ElementTree.Element("testsuites", name="clusterctl doctor", time=f"{seconds:.3f}")
    for family, cases in families.items():
        counts: dict[str, str] = {
            total: str(sum(case.find(kind) is not None for case in cases)) for total, kind in _COUNTED.items()
        }
        suite = ElementTree.SubElement(
            root, "testsuite", {"name": family, "tests": str(len(cases)), **counts}
        )
        suite.extend(cases)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _judge(case: ElementTree.Element, status: str, reason: str, finding: Finding | None) -> None:
    text = harmless(_text(finding)) if finding else ""
    if status == "skip":
        ElementTree.SubElement(case, "skipped", message=harmless(reason))
    elif finding is None:
        if status == "unknown":
            ElementTree.SubElement(case, "error", message=harmless(reason or "it could not be asked"))
    elif finding.severity in ("fail", "unknown"):
        kind = "failure" if finding.severity == "fail" else "error"
        ElementTree.SubElement(case, kind, message=harmless(finding.observed), type=finding.code).text = text
    else:
        ElementTree.SubElement(case, "system-out").text = text


def _text(finding: Finding) -> str:
    parts = [f"{finding.severity}: {finding.observed}"]
    parts += [f"expected: {finding.expected}"] if finding.expected else []
    parts += [f"fix: {finding.fix}"] if finding.fix else []
    return "\n".join(parts)
