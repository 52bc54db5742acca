"""What a session on a host starts with: its shell, its python, the profile's activation line."""

from __future__ import annotations

from collections.abc import Iterator

from clusterctl.checks.rule import Blocked, Evidence, Hit, Rule, Skipped, Verdict, never_asked
from clusterctl.checks.stages import breaks_at


def _noninteractive(evidence: Evidence) -> Iterator[Verdict]:
    yield from breaks_at("exec", "python")(evidence)
    for host, facts in evidence.facts.items():
        if facts.python.error and facts.activation and facts.activation.error:
            yield Blocked(host, "the activation line failed")
        elif facts.python.error:
            wanted = facts.python.requested or "python3"
            yield Hit(hosts=(host,), observed=facts.python.error, expected=f"{wanted} starts over SSH")


def _activate(evidence: Evidence) -> Iterator[Verdict]:
    lines = {host: facts.activation for host, facts in evidence.facts.items() if facts.activation}
    if not lines:
        yield Skipped("the profile has no activation line")
    for host, activation in lines.items():
        if activation.error:
            yield Hit(hosts=(host,), observed=f"activation line: {activation.error}")


def _result(evidence: Evidence) -> Iterator[Verdict]:
    yield from breaks_at("deadline", "decode")(evidence)
    known = {*evidence.facts, *(failure.host for failure in evidence.failures)}
    for host in evidence.inventory.names:
        if host not in known:
            yield Hit(hosts=(host,), observed="no answer and no reason")


def _noise(evidence: Evidence) -> Iterator[Verdict]:
    for host, facts in evidence.facts.items():
        first = next((line.strip() for line in facts.noise.splitlines() if line.strip()), "")
        if first:
            text = first if len(first) <= 40 else f"{first[:39]}…"
            yield Hit(hosts=(host,), observed=f"the login shell prints “{text}” before every command")


def _workdir(evidence: Evidence) -> Iterator[Verdict]:
    lacking = tuple(host for host, facts in evidence.facts.items() if facts.workdir_exists is False)
    if all(facts.workdir_exists is None for facts in evidence.facts.values()):
        yield Skipped("`launch` copies the working directory; nothing to compare here")
    elif lacking and len(lacking) < len(evidence.facts):
        yield Hit(hosts=lacking, observed="the working directory does not exist here; `launch` copies it")


RULES: tuple[Rule, ...] = (
    Rule(
        code="env.noninteractive",
        severity="fail",
        looks_at="the training python in a shell that is neither a login nor an interactive one",
        judge=_noninteractive,
        symptom="`python: command not found` on the workers only",
        fix="name the interpreter absolutely in the profile (python: /path/to/venv/bin/python), or give an "
        "activation line there",
    ),
    Rule(
        code="env.activate",
        severity="fail",
        looks_at="the profile's activation line, run once by bash",
        judge=_activate,
        symptom="the ranks of this host would start without their environment",
        fix="try the line there: ssh HOST, then `bash --noprofile --norc`; `hosts: HOST: activate:` in the "
        "profile has another line for one host",
    ),
    Rule(
        code="env.result",
        severity="fail",
        looks_at="whether a complete answer came in time",
        judge=_result,
        symptom="a silent host would be taken for a healthy one",
        fix="clusterctl doctor -i HOST -v",
    ),
    Rule(
        code="env.noise",
        severity="warn",
        looks_at="what the login shell prints before a command's own output",
        judge=_noise,
        symptom="scp, rsync and pdsh break on the extra text; clusterctl reads past it",
        fix="in ~/.bashrc, before the printing: [[ $- == *i* ]] || return",
    ),
    Rule(
        code="env.path",
        severity="info",
        looks_at="the working directory at the same path on every host",
        judge=_workdir,
    ),
    Rule(
        code="env.sudo",
        severity="info",
        looks_at="root rights",
        judge=never_asked("no check here needs root"),
    ),
)
