"""What a session on a host starts with: its shell, its python, the profile's activation line."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from clusterctl.checks.remedy import shell
from clusterctl.checks.rule import Blocked, Evidence, Hit, NotKnown, Rule, Skipped, Verdict, never_asked
from clusterctl.checks.stages import breaks_at
from clusterctl.facts.sections import unread

LOGIN_SLOW = 6.0
"""Seconds for which start-up files wait for something, beyond their own work."""

_COMPLAINT = re.compile(
    r"^(Lmod .*|(?!WARNING|NOTICE)\S+: .*)(error|not found|no such|cannot|can't|could not|denied|failed)",
    re.IGNORECASE,
)
"""A shell or a program of its own says what went wrong; a banner of sshd's has no such beginning."""
_HARMLESS = re.compile(r"locale|LC_[A-Z]+|LANG\b|ioctl|ttyname|job control|terminal", re.IGNORECASE)


def _facts(evidence: Evidence) -> Iterator[Verdict]:
    for host, facts in evidence.facts.items():
        for section, why in unread(facts).items():
            yield NotKnown(host, f"{section}: {why}")


def _shell(evidence: Evidence) -> Iterator[Verdict]:
    for verdict in breaks_at("exec")(evidence):
        if isinstance(verdict, Hit):
            verdict = msgspec.structs.replace(verdict, fix=_opened(verdict.observed))
        yield verdict


_NO_COMMAND = (
    (
        "meant for the command",
        "look for `read`, `cat`, `ssh` and the like in ~/.bashrc: they need </dev/null",
    ),
    ("currently not available", "the account has no login shell there: usermod -s /bin/bash gives it one"),
    ("going down", "the host is closed for maintenance; later: sudo rm -f /etc/nologin /run/nologin"),
    ("maintenance", "the host is closed; when its maintenance is over: sudo rm -f /etc/nologin"),
    ("sftp", "the account may only copy files: ForceCommand or Match in /etc/ssh/sshd_config there"),
    (
        "started no command",
        "sshd opens no session: MaxSessions in /etc/ssh/sshd_config, a full process table",
    ),
    (
        "ended with 0",
        "look for `exit` or `exec` in ~/.bashrc there, then for ForceCommand in /etc/ssh/sshd_config and "
        "command= in ~/.ssh/authorized_keys: ssh HOST true; echo $?",
    ),
)
"""What the session said -> where to look."""


def _opened(said: str) -> str:
    usual = "look for `exit`, `exec` or an error in ~/.bashrc: ssh HOST true; echo $?"
    return next((cure for words, cure in _NO_COMMAND if words in said), usual)


def _noninteractive(evidence: Evidence) -> Iterator[Verdict]:
    yield from breaks_at("python")(evidence)
    told, missing = evidence.told(("python",))
    for host, reason in missing.items():
        yield Blocked(host, f"could not be read: {reason}")
    for host, facts in told.facts.items():
        if facts.python.error and facts.activation and facts.activation.error:
            yield Blocked(host, "the activation line failed")
        elif facts.python.error and facts.python.shadows:
            yield Blocked(host, "a file in PYTHONPATH stands before a module of Python's own: sw.pythonpath")
        elif facts.python.error:
            wanted = facts.python.requested or "python3"
            yield Hit(
                hosts=(host,),
                observed=facts.python.error,
                expected=f"{wanted} starts over SSH",
                fix="take PYTHONHOME out of the host's start-up files"
                if " with PYTHONHOME=" in facts.python.error
                else "",
                cause=facts.python.error.partition(": ")[2],
            )


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
            observed = f"the login shell prints “{text}” before every command"
            yield Hit(hosts=(host,), observed=observed, cause="noise")


def _complaints(evidence: Evidence) -> Iterator[Verdict]:
    """Of what came on stderr only what names an error; a missing locale or terminal harms nobody."""
    for host, facts in evidence.facts.items():
        lines = [line.strip() for line in facts.complaints.splitlines()]
        first = next((line for line in lines if _COMPLAINT.search(line) and not _HARMLESS.search(line)), "")
        if first:
            text = first if len(first) <= 120 else f"{first[:119]}…"
            yield Hit(hosts=(host,), observed=f"the login shell complains: “{text}”", cause=text)


def _login_time(evidence: Evidence) -> Iterator[Verdict]:
    for host, facts in evidence.facts.items():
        login = facts.login
        if login is None:
            continue
        # Work takes its time and longer on a busy machine; what is left was spent in waiting.
        busy = max(1.0, 2 * (facts.load or 0.0) / max(facts.cpus_online, 1))
        waited = login.seconds - login.cpu * busy
        if waited >= LOGIN_SLOW:
            yield Hit(
                hosts=(host,),
                observed=f"the start-up files of the login shell take {login.seconds:.0f} s",
                expected="a fraction of a second",
                cause="slow",
            )


def _workdir(evidence: Evidence) -> Iterator[Verdict]:
    lacking = tuple(host for host, facts in evidence.facts.items() if facts.workdir_exists is False)
    if all(facts.workdir_exists is None for facts in evidence.facts.values()):
        yield Skipped("`launch` copies the working directory; nothing to compare here")
    elif lacking and len(lacking) < len(evidence.facts):
        yield Hit(hosts=lacking, observed="the working directory does not exist here; `launch` copies it")


RULES: tuple[Rule, ...] = (
    Rule(
        code="env.facts",
        severity="unknown",
        looks_at="whether every part of the host's facts could be read",
        judge=_facts,
    ),
    Rule(
        code="env.shell",
        severity="fail",
        looks_at="whether the login shell runs the command it is given",
        judge=_shell,
        symptom="no command over SSH gets to run there, a rank's neither",
    ),
    Rule(
        code="env.noninteractive",
        severity="fail",
        looks_at="the training python in a shell that is neither a login nor an interactive one",
        judge=_noninteractive,
        symptom="`python: command not found` on the workers only",
        fix="name the interpreter in the profile, as `python: /path/to/venv/bin/python`, or give an "
        "activation line there",
    ),
    Rule(
        code="env.activate",
        severity="fail",
        looks_at="the profile's activation line, run once by bash",
        judge=_activate,
        symptom="the ranks of this host would start without their environment",
        fix="try the line there, in `bash --noprofile --norc`; under `hosts:` the profile may have another "
        "line for one host",
    ),
    Rule(
        code="env.result",
        severity="fail",
        looks_at="whether a complete answer came in time",
        judge=_result,
        symptom="a run would wait for this host at its start, and hang",
        fix=shell("clusterctl doctor -i HOST -v", where="here", looks=True),
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
        code="env.stderr",
        severity="warn",
        looks_at="errors that the login shell's start-up files print",
        judge=_complaints,
        symptom="what the file was to set up is missing in every rank",
        fix="correct the line in ~/.bashrc or in the file that it names",
    ),
    Rule(
        code="env.login-time",
        severity="warn",
        looks_at="how long the login shell's start-up files wait for something",
        judge=_login_time,
        needs=("system",),
        symptom="every session starts late, and tools with a short timeout take the host for dead",
        fix=shell("ssh HOST bash -xlic true", where="here", looks=True),
    ),
    Rule(
        code="env.path",
        severity="info",
        looks_at="the working directory at the same path on every host",
        judge=_workdir,
        needs=("workdir",),
    ),
    Rule(
        code="env.sudo",
        severity="info",
        looks_at="root rights",
        judge=never_asked("no check here needs root"),
    ),
)
