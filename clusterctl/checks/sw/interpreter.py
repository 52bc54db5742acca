"""The training interpreter: is there one, is it the right one, and the same on all hosts?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from clusterctl.checks.consistency import deviations, unlike
from clusterctl.checks.rule import Blocked, Evidence, NotKnown, Rule, Verdict
from clusterctl.facts.model import Facts
from clusterctl.facts.versions import version

MANY_PACKAGES = 3
"""A host that lacks torch and so many of what most others have is asked with another interpreter."""


def with_python(evidence: Evidence) -> dict[str, Facts]:
    return {host: facts for host, facts in evidence.facts.items() if not facts.python.error}


def without_python(evidence: Evidence) -> Iterator[Verdict]:
    for host, facts in evidence.facts.items():
        if facts.python.error:
            yield Blocked(host, "no python to ask")


def bare_hosts(evidence: Evidence) -> tuple[str, ...]:
    """Hosts whose interpreter lacks torch and most of what the others have: one cause, told once."""
    asked = {host: facts.python.packages.keys() for host, facts in with_python(evidence).items()}
    common = Counter(name for packages in asked.values() for name in packages)
    usual = {name for name, count in common.items() if 2 * count > len(asked)}
    lacking = {host: usual - packages for host, packages in asked.items()}
    return tuple(
        host
        for host, names in lacking.items()
        if "torch" in names and len(names) > MANY_PACKAGES and 2 * len(names) > len(usual)
    )


def _python(evidence: Evidence) -> Iterator[Verdict]:
    yield from without_python(evidence)
    versions = {host: facts.python.version for host, facts in with_python(evidence).items()}
    for host, told in versions.items():
        if not told:
            yield NotKnown(host, "the interpreter did not tell its version")
    known = {host: told for host, told in versions.items() if told}
    if wanted := evidence.expect.get("python"):
        yield from unlike(known, wanted, of="python")
        return
    minors = {host: _minor(told) for host, told in known.items()}
    yield from deviations(minors, of="python")


def _minor(told: str) -> str:
    found = version(told)
    return f"{found.major}.{found.minor}" if found else told


RULES: tuple[Rule, ...] = (
    Rule(
        code="sw.python",
        severity="fail",
        looks_at="the training interpreter's version (major.minor)",
        judge=_python,
        needs=("python",),
        symptom="pickles and compiled extensions of one host do not load on another",
        fix="use one python on all hosts, or name the right one per host in the profile",
    ),
)
