"""Runs every rule over the evidence and folds what they say into findings, results and verdicts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from clusterctl.checks.families import RULES
from clusterctl.checks.finding import CheckResult, Cure, Finding, Severity, Status
from clusterctl.checks.merge import Told, one_finding
from clusterctl.checks.remedy import remedy
from clusterctl.checks.rule import Blocked, Evidence, Hit, NoAnswer, NotKnown, Passed, Rule, Skipped, Verdict
from clusterctl.checks.selection import EVERY_RULE, Selection
from clusterctl.facts.e2e import Proof
from clusterctl.facts.lasting import Baseline
from clusterctl.facts.model import Facts, Reachability
from clusterctl.inventory.model import Inventory
from clusterctl.network.model import Network, Setting

Ready = Literal["ready", "not-ready", "unknown"]

_WORST_FIRST: tuple[Severity, ...] = ("fail", "unknown", "warn", "info")


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """``findings`` worst first; ``checks`` in the order of the rules; ``hosts`` in inventory order.

    ``cures`` are what would mend each finding on each of its hosts, in the order of the rules.
    """

    findings: tuple[Finding, ...]
    checks: tuple[CheckResult, ...]
    hosts: dict[str, Ready]
    cures: tuple[Cure, ...] = ()

    @property
    def verdict(self) -> Ready:
        found = {finding.severity for finding in self.findings}
        if "fail" in found or "not-ready" in self.hosts.values():
            return "not-ready"
        return "unknown" if "unknown" in found or "unknown" in self.hosts.values() else "ready"

    def exit_code(self, *, strict: bool = False) -> int:
        """1 if anything fails, else 2 if anything is unknown, else 0; with ``strict`` a warning fails too."""
        warned = any(finding.severity == "warn" for finding in self.findings)
        if self.verdict == "not-ready" or (strict and warned):
            return 1
        return 2 if self.verdict == "unknown" else 0

    @property
    def ready(self) -> tuple[str, ...]:
        return tuple(host for host, verdict in self.hosts.items() if verdict == "ready")


def evaluate(
    inventory: Inventory,
    facts: Mapping[str, Facts],
    failures: Iterable[NoAnswer] = (),
    reachability: Reachability | None = None,
    network: Network | None = None,
    *,
    proof: Proof | None = None,
    expect: Mapping[str, str] | None = None,
    settings: Mapping[str, tuple[Setting, ...]] | None = None,
    quick: bool = False,
    simulated: bool = False,
    baseline: Baseline | None = None,
    selection: Selection = EVERY_RULE,
    rules: tuple[Rule, ...] = RULES,
) -> Report:
    """Judge a cluster. A host without facts is never ready, whatever the rules say."""
    return judge(
        Evidence(
            inventory=inventory,
            facts={host: facts[host] for host in inventory.names if host in facts},
            failures=tuple(failures),
            reachability=reachability or Reachability(),
            network=network or Network(),
            proof=proof or Proof(),
            expect=expect or {},
            settings=settings or {},
            quick=quick,
            simulated=simulated,
            baseline=baseline,
        ),
        rules,
        selection,
    )


def judge(evidence: Evidence, rules: tuple[Rule, ...] = RULES, selection: Selection = EVERY_RULE) -> Report:
    """As `evaluate`, on evidence that is already put together."""
    findings: list[Finding] = []
    checks: list[CheckResult] = []
    cures: list[Cure] = []
    names = evidence.inventory.names
    for rule in rules:
        if reason := selection.left_out(rule.code):
            checks.append(CheckResult(code=rule.code, status="skip", hosts=names, reason=reason))
            continue
        verdicts = _verdicts(rule, evidence)
        told = tuple(_told(rule, verdicts))
        findings.extend(_findings(told, names))
        cures.extend(cure for _, each in told for cure in _cures(each))
        checks.extend(_results(rule, verdicts, evidence))
    findings.sort(key=lambda finding: _WORST_FIRST.index(finding.severity))
    return Report(
        findings=tuple(findings),
        checks=tuple(checks),
        hosts=_host_verdicts(names, findings, evidence),
        cures=tuple(cures),
    )


def _host_verdicts(names: tuple[str, ...], findings: list[Finding], evidence: Evidence) -> dict[str, Ready]:
    failing = {host for finding in findings if finding.severity == "fail" for host in finding.hosts}
    unknown = {host for finding in findings if finding.severity == "unknown" for host in finding.hosts}
    return {
        host: "not-ready"
        if host in failing
        else "unknown"
        if host not in evidence.facts or host in unknown
        else "ready"
        for host in names
    }


def _verdicts(rule: Rule, evidence: Evidence) -> tuple[Verdict, ...]:
    """What the rule says of the hosts that could tell what it needs; of the others, that they could not."""
    told, missing = evidence.told(rule.needs)
    unknown = tuple(Blocked(host, f"could not be read: {reason}") for host, reason in missing.items())
    return (*rule.judge(told), *unknown) if told.facts or not missing else unknown


def _told(rule: Rule, verdicts: tuple[Verdict, ...]) -> Iterable[tuple[str, Told]]:
    """(cause, finding) of each hit.

    A mere note from a rule that can fail carries no cure: nothing is broken.
    """
    for verdict in verdicts:
        if isinstance(verdict, NotKnown):
            verdict = Hit(
                hosts=(verdict.host,), observed=f"could not be read: {verdict.reason}", severity="unknown"
            )
        if isinstance(verdict, Hit):
            severity = verdict.severity or rule.severity
            quiet = severity == "unknown" or (severity == "info" and rule.severity != "info")
            cure = remedy(verdict.fix or ("" if quiet else rule.fix))
            found = Finding(
                code=rule.code,
                severity=severity,
                hosts=verdict.hosts,
                observed=verdict.observed,
                expected=verdict.expected,
                symptom=verdict.symptom or ("" if quiet else rule.symptom),
                fix=cure.text,
            )
            text = "\n".join((found.observed, found.expected, found.symptom, found.fix))
            yield verdict.cause or text, Told(found, cure)


def _findings(told: Iterable[tuple[str, Told]], order: tuple[str, ...]) -> Iterable[Finding]:
    """One for each cause."""
    merged: defaultdict[tuple[Severity, str], list[Told]] = defaultdict(list)
    for cause, each in told:
        merged[each.finding.severity, cause].append(each)
    return (one_finding(alike, order) for alike in merged.values())


def _cures(told: Told) -> Iterable[Cure]:
    found = told.finding
    if found.severity != "info" and found.fix:
        for host in found.hosts or ("",):
            yield Cure(
                code=found.code,
                severity=found.severity,
                host=host,
                observed=found.observed,
                expected=found.expected,
                remedy=told.remedy.at(host),
            )


def _results(rule: Rule, verdicts: tuple[Verdict, ...], evidence: Evidence) -> Iterable[CheckResult]:
    """Every host under exactly one status, the worst that was said about it."""
    skipped = next((verdict for verdict in verdicts if isinstance(verdict, Skipped)), None)
    usual: tuple[Status, str] = ("skip", skipped.reason) if skipped and evidence.facts else ("pass", "")
    told: dict[str, tuple[Status, str]] = {
        host: usual if usual[0] == "skip" or host in evidence.facts else ("unknown", "no answer")
        for host in evidence.inventory.names
    }
    for verdict in sorted(verdicts, key=lambda each: _badness(each, rule)):
        if isinstance(verdict, Hit):
            severity = verdict.severity or rule.severity
            if severity != "info":
                told.update(dict.fromkeys(verdict.hosts, (severity, verdict.observed)))
        elif isinstance(verdict, Passed):
            told[verdict.host] = ("pass", "")
        elif isinstance(verdict, NotKnown | Blocked):
            told[verdict.host] = ("unknown", verdict.reason)
    grouped: defaultdict[tuple[Status, str], list[str]] = defaultdict(list)
    for host, outcome in told.items():
        grouped[outcome].append(host)
    return tuple(
        CheckResult(code=rule.code, status=status, hosts=tuple(hosts), reason=reason)
        for (status, reason), hosts in grouped.items()
    )


def _badness(verdict: Verdict, rule: Rule) -> int:
    """Mildest first, so that the worst that is said about a host is written last."""
    if isinstance(verdict, Hit):
        return {"info": 1, "warn": 2, "unknown": 3, "fail": 4}[verdict.severity or rule.severity]
    return 3 if isinstance(verdict, NotKnown | Blocked) else 0
