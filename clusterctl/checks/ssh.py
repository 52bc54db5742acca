"""Does every host let us in?"""

from __future__ import annotations

from collections.abc import Iterator

from clusterctl.checks.ip import answering_for
from clusterctl.checks.remedy import shell
from clusterctl.checks.rule import Blocked, Evidence, Hit, Rule, Skipped, Verdict, never_asked
from clusterctl.checks.stages import breaks_at

MANY_HOSTS = 8
"""sshd's MaxStartups begins to drop at 10 sessions that have not logged in yet."""


def _dropped(evidence: Evidence) -> tuple[str, ...]:
    """Hosts whose sessions a gateway, or sshd by its own word, dropped because of their number."""
    return tuple(
        failure.host
        for failure in evidence.failures
        if failure.stage == "dropped" and ("MaxStartups" in failure.message or "gateway" in failure.message)
    )


def _fanout(evidence: Evidence) -> Iterator[Verdict]:
    dropped = _dropped(evidence)
    if len(evidence.inventory.hosts) < MANY_HOSTS:
        yield Skipped(f"fewer than {MANY_HOSTS} hosts")
    elif 1 < len(dropped) < len(evidence.inventory.hosts):
        yield Hit(hosts=dropped, observed=f"sshd dropped {len(dropped)} of the sessions opened at once")


def _reach(evidence: Evidence) -> Iterator[Verdict]:
    """One host alone, or one that was dropped for another reason, has a fault of its own."""
    told = {host for verdict in _fanout(evidence) if isinstance(verdict, Hit) for host in verdict.hosts}
    for verdict in breaks_at("resolve", "connect", "dropped", "banner")(evidence):
        if isinstance(verdict, Hit) and told.issuperset(verdict.hosts):
            yield Blocked(verdict.hosts[0], "too many sessions at once: ssh.fanout")
        else:
            yield verdict


def _hostkey(evidence: Evidence) -> Iterator[Verdict]:
    """A key of another machine, which has the host's address as well, is no sign of a new installation."""
    doubled = {failure.host for failure in evidence.failures if any(answering_for(evidence, failure))}
    for verdict in breaks_at("hostkey")(evidence):
        if isinstance(verdict, Hit) and doubled.issuperset(verdict.hosts):
            yield Blocked(verdict.hosts[0], "another machine answers at its address: ip.duplicate")
        else:
            yield verdict


def _path_mtu(evidence: Evidence) -> Iterator[Verdict]:
    """A host that broke later has not passed this: its login needs no large packet."""
    return (verdict for verdict in breaks_at("path")(evidence) if isinstance(verdict, Hit))


RULES: tuple[Rule, ...] = (
    Rule(
        code="ssh.reach",
        severity="fail",
        looks_at="name resolution and the connection to sshd, for every host",
        judge=_reach,
        symptom="every other host waits at the rendezvous for a node that never starts",
        fix="start sshd on the host, open its port, or correct HostName in ~/.ssh/config",
    ),
    Rule(
        code="ssh.path-mtu",
        severity="fail",
        looks_at="whether large packets pass between this machine and the host, by the kernel's own count",
        judge=_path_mtu,
        symptom="logins work, and whatever brings or takes more than a line hangs",
    ),
    Rule(
        code="ssh.hostkey",
        severity="fail",
        looks_at="the host key against known_hosts",
        judge=_hostkey,
        symptom="ssh and pdsh stop at a question or refuse, in the middle of a launch",
        fix="compare the key with the machine's own, then: ssh-keygen -R HOST; ssh HOST",
    ),
    Rule(
        code="ssh.auth",
        severity="fail",
        looks_at="login by key, without a question",
        judge=breaks_at("auth"),
        symptom="ssh asks for a password nobody can type, or the host never starts",
        fix=shell("ssh-copy-id HOST", where="here"),
    ),
    Rule(
        code="ssh.fanout",
        severity="fail",
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
)
