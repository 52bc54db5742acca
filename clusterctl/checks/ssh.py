"""1A: does every host answer, as the right user, with the right python, exactly once?"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from clusterctl.checks.rule import (
    Blocked,
    Evidence,
    Hit,
    Judge,
    Passed,
    Rule,
    Skipped,
    Verdict,
    never_asked,
)
from clusterctl.network.candidates import machine

_STAGES = ("resolve", "connect", "banner", "hostkey", "auth", "exec", "python", "deadline", "decode")
"""In the order a session passes through them."""

MANY_HOSTS = 8
"""sshd's MaxStartups begins to drop at 10 sessions that have not logged in yet."""


def _breaks_at(*stages: str) -> Judge:
    """Fails the hosts whose session broke there, and passes those whose session got beyond."""
    last = max(_STAGES.index(stage) for stage in stages)

    def judge(evidence: Evidence) -> Iterator[Verdict]:
        for failure in evidence.failures:
            if failure.stage in stages:
                yield Hit(hosts=(failure.host,), observed=failure.message, fix=failure.hint)
            elif failure.stage in _STAGES and _STAGES.index(failure.stage) > last:
                yield Passed(failure.host)

    return judge


def _fanout(evidence: Evidence) -> Iterator[Verdict]:
    dropped = tuple(failure.host for failure in evidence.failures if failure.stage == "banner")
    if len(evidence.inventory.hosts) < MANY_HOSTS:
        yield Skipped(f"fewer than {MANY_HOSTS} hosts")
    elif dropped and len(dropped) < len(evidence.inventory.hosts):
        yield Hit(hosts=dropped, observed=f"sshd dropped {len(dropped)} of the sessions opened at once")


def _noninteractive(evidence: Evidence) -> Iterator[Verdict]:
    yield from _breaks_at("exec", "python")(evidence)
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
    yield from _breaks_at("deadline", "decode")(evidence)
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


def _duplicates(evidence: Evidence) -> Iterator[Verdict]:
    if evidence.simulated:
        yield Skipped("simulated: all hosts are this machine")
        return
    entries: defaultdict[tuple[object, ...], list[str]] = defaultdict(list)
    for host, facts in evidence.facts.items():
        entries[machine(facts)].append(host)
    lines = {host.name: host.line for host in evidence.inventory.hosts}
    for twins in entries.values():
        if len(twins) > 1:
            extra = ", ".join(f"line {lines[host]} ({host})" for host in twins[1:])
            yield Hit(
                hosts=tuple(twins),
                observed=f"{' and '.join(twins)} are one machine",
                expected="one hostfile line per machine",
                fix=f"delete {extra} of {evidence.inventory.source} and add its slots to {twins[0]}",
            )


def _shared_gpus(evidence: Evidence) -> Iterator[Verdict]:
    bearers: defaultdict[str, list[str]] = defaultdict(list)
    for host, facts in evidence.facts.items():
        for gpu in facts.nvidia.gpus:
            bearers[gpu.uuid].append(host)
    shared = {uuid: hosts for uuid, hosts in bearers.items() if len(set(hosts)) > 1}
    counted = Counter(tuple(dict.fromkeys(hosts)) for hosts in shared.values())
    for hosts, count in counted.items():
        yield Hit(hosts=hosts, observed=f"{' and '.join(hosts)} see the same {count} GPU(s)")


def _name_clash(evidence: Evidence) -> Iterator[Verdict]:
    bearers: defaultdict[str, dict[tuple[object, ...], str]] = defaultdict(dict)
    for host, facts in evidence.facts.items():
        bearers[facts.hostname][machine(facts)] = host
    for hostname, machines in bearers.items():
        if len(machines) > 1:
            yield Hit(
                hosts=tuple(machines.values()),
                observed=f"{len(machines)} machines call themselves {hostname!r}",
                expected="a hostname of its own on each",
            )


def _slots(evidence: Evidence) -> Iterator[Verdict]:
    if not evidence.has_gpus:
        yield Skipped("no GPU on any host: slots count processes")
        return
    for entry in evidence.inventory.hosts:
        facts = evidence.facts.get(entry.name)
        if facts is None or (facts.nvidia.present and facts.nvidia.exit_code != 0):
            continue
        count = len(facts.nvidia.gpus)
        wanted = max(entry.declared_slots, max(entry.slots, default=-1) + 1)
        if wanted > count:
            yield Hit(
                hosts=(entry.name,),
                observed=f"slots={wanted}, but {count or 'no'} GPU{'s' * (count != 1)}",
                expected="at most as many slots as GPUs",
                fix=f"{evidence.inventory.source} line {entry.line}: {entry.name} slots={count}"
                if count
                else f"launch with --exclude {entry.name}, or repair its driver",
            )
        elif entry.declared_slots < count:
            yield Hit(
                hosts=(entry.name,),
                observed=f"{count} GPUs, of which the hostfile uses {entry.declared_slots}",
                severity="info",
            )


def _user(evidence: Evidence) -> Iterator[Verdict]:
    """Different users matter where they write to one filesystem; elsewhere they are only worth a note."""
    users = {host: f"{facts.user} (uid {facts.uid})" for host, facts in evidence.facts.items()}
    tokens = Counter(facts.shared_token for facts in evidence.facts.values() if facts.shared_token)
    sharing = {host for host, facts in evidence.facts.items() if tokens[facts.shared_token] > 1}
    if len({evidence.facts[host].uid for host in sharing}) > 1:
        parts = ", ".join(f"{host}: {users[host]}" for host in users if host in sharing)
        yield Hit(
            hosts=tuple(sharing), observed=parts, expected="one uid on hosts that share a home directory"
        )
    elif len(set(users.values())) > 1:
        by_user: defaultdict[str, list[str]] = defaultdict(list)
        for host, user in users.items():
            by_user[user].append(host)
        parts = "; ".join(f"{user}: {len(hosts)} host(s)" for user, hosts in by_user.items())
        yield Hit(hosts=tuple(users), observed=parts, severity="info")


def _workdir(evidence: Evidence) -> Iterator[Verdict]:
    lacking = tuple(host for host, facts in evidence.facts.items() if facts.workdir_exists is False)
    if all(facts.workdir_exists is None for facts in evidence.facts.values()):
        yield Skipped("`launch` copies the working directory; nothing to compare here")
    elif lacking and len(lacking) < len(evidence.facts):
        yield Hit(hosts=lacking, observed="the working directory does not exist here; `launch` copies it")


def _hostfile_lines(evidence: Evidence) -> Iterator[Verdict]:
    for warning in evidence.inventory.warnings:
        yield Hit(hosts=(), observed=f"{warning.where}: {warning.message}", fix=warning.hint)


RULES: tuple[Rule, ...] = (
    Rule(
        code="hostfile.line",
        severity="warn",
        looks_at="lines of the hostfile that DeepSpeed accepts but reads otherwise than they look",
        judge=_hostfile_lines,
        symptom="a host or a slot count is taken other than meant",
        fix="correct the line",
    ),
    Rule(
        code="ssh.reach",
        severity="fail",
        looks_at="name resolution and the connection to sshd, for every host",
        judge=_breaks_at("resolve", "connect", "banner"),
        symptom="the other hosts wait at the rendezvous for a node that never starts",
        fix="start sshd on the host, open its port, or correct HostName in ~/.ssh/config",
    ),
    Rule(
        code="ssh.hostkey",
        severity="fail",
        looks_at="the host key against known_hosts",
        judge=_breaks_at("hostkey"),
        symptom="ssh and pdsh stop at a question or refuse, in the middle of a launch",
        fix="compare the key with the machine's own, then: ssh-keygen -R HOST; ssh HOST",
    ),
    Rule(
        code="ssh.auth",
        severity="fail",
        looks_at="login by key, without a question",
        judge=_breaks_at("auth"),
        symptom="ssh asks for a password nobody can type, or the host never starts",
        fix="ssh-copy-id HOST",
    ),
    Rule(
        code="ssh.fanout",
        severity="warn",
        looks_at="sessions that sshd or a jump host dropped when many were opened at once",
        judge=_fanout,
        symptom="healthy hosts look down from about ten hosts on",
        fix="on the jump host, in sshd_config: MaxStartups 100:30:200",
    ),
    Rule(
        code="ssh.peer",
        severity="fail",
        looks_at="SSH from rank 0's host to the others",
        judge=never_asked("every host is started from here; hosts need no SSH to one another"),
    ),
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
        looks_at="whether a complete answer came within the deadline",
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
    Rule(
        code="host.dup",
        severity="fail",
        looks_at="boot id, interfaces and addresses: two entries that are one machine",
        judge=_duplicates,
        symptom="NCCL stops with “Multiple ranks are using the same GPU”, or one machine does twice the work",
    ),
    Rule(
        code="host.shared-gpu",
        severity="warn",
        looks_at="GPU UUIDs over all entries",
        judge=_shared_gpus,
        symptom="two ranks share one GPU's memory, and NCCL may refuse to start",
        fix="keep one of the entries, or give each its own GPUs",
    ),
    Rule(
        code="host.name-clash",
        severity="warn",
        looks_at="hostnames over all hosts",
        judge=_name_clash,
        symptom="logs overwrite one another and tools take two nodes for one",
        fix="sudo hostnamectl set-hostname NEW-NAME",
    ),
    Rule(
        code="host.slots",
        severity="fail",
        looks_at="slots in the hostfile against the GPUs the driver shows",
        judge=_slots,
        symptom="“CUDA error: invalid device ordinal” on this host only",
    ),
    Rule(
        code="host.user",
        severity="warn",
        looks_at="user name and uid on all hosts",
        judge=_user,
        symptom="permission errors on directories that the hosts share",
    ),
)
