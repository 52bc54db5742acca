"""What passed between hosts: OS-chosen ports both ways, large payloads, addresses seen."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from clusterctl.checks.net.attribution import Blame, Edge, attribute
from clusterctl.checks.rule import Evidence, Hit, Judge, NotKnown, Rule, Skipped, Verdict
from clusterctl.facts.model import Dial
from clusterctl.inventory.fold import fold

ANSWERED_AT_ONCE = 1.0
"""Seconds: an unreachable that comes sooner is a firewall's word; later it is ARP without an answer."""

_CAUSES = {
    "dropped": "dropped (timeout)",
    "reset": "refused (TCP reset)",
    "prohibited": "rejected by a firewall (admin-prohibited)",
    "silent": "unanswered (no such host on the wire)",
    "no-route": "without a route",
    "foreign": "answered by another service",
    "error": "broken",
}


def _asked(judge: Judge) -> Judge:
    """Skips where there is nobody to dial, or where dials were not made."""

    def over(evidence: Evidence) -> Iterator[Verdict]:
        if len(evidence.inventory.hosts) < 2:
            yield Skipped("one host")
        elif not evidence.reachability.asked:
            yield Skipped("not asked with --quick" if evidence.quick else "no traffic was sent between hosts")
        elif evidence.simulated:
            yield Skipped("simulated: all hosts share this machine's network")
        else:
            yield from judge(evidence)

    return over


def _edges(evidence: Evidence) -> dict[Edge, list[Dial]]:
    """(source, target) -> the dials to the address that the target got in the chosen network.

    Where no network covers a host, all its addresses were tried in vain and speak for it.
    """
    chosen = {entry.host: entry.address for entry in evidence.network.hosts}
    edges: defaultdict[Edge, list[Dial]] = defaultdict(list)
    for dial in evidence.reachability.dials:
        if dial.kind != "master" and dial.address == chosen.get(dial.target, dial.address):
            edges[dial.source, dial.target].append(dial)
    return dict(edges)


def _cause(dial: Dial) -> str:
    if dial.result == "unreachable":
        return "prohibited" if dial.seconds < ANSWERED_AT_ONCE else "silent"
    return {"timeout": "dropped", "refused": "reset", "no-route": "no-route", "foreign": "foreign"}.get(
        dial.result, "error"
    )


def _backconnect(evidence: Evidence) -> Iterator[Verdict]:
    yield from _unheard(evidence)
    edges = _edges(evidence)
    deaf = set(evidence.reachability.listen_errors)
    bad: defaultdict[tuple[str, bool], set[Edge]] = defaultdict(set)
    for edge, dials in edges.items():
        failed = [dial for dial in dials if dial.result not in ("ok", "stall")]
        if failed and edge[1] not in deaf:
            partly = len(failed) < len(dials)
            bad[_cause(min(failed, key=lambda dial: dial.seconds)), partly].add(edge)
    for (cause, partly), broken in bad.items():
        for blame in attribute(broken, edges.keys()):
            yield _blocked(evidence, blame, cause, partly)


def _unheard(evidence: Evidence) -> Iterator[Verdict]:
    """Hosts that could not listen, or never told what they dialled."""
    for host, reason in evidence.reachability.listen_errors.items():
        yield NotKnown(host, f"it could not listen: {reason}")
    if len(evidence.facts) > 1:
        sources = {dial.source for dial in evidence.reachability.dials}
        for host in evidence.facts:
            if host not in sources and host not in evidence.reachability.listen_errors:
                yield NotKnown(host, "it did not tell which peers it reached")


def _blocked(evidence: Evidence, blame: Blame, cause: str, partly: bool) -> Hit:
    how = f"{_CAUSES[cause]}{' on some of the ports tried' if partly else ''}"
    return Hit(
        hosts=blame.hosts,
        observed=f"{_subject(blame, len(evidence.facts))} {how}{_master_is_open(evidence, blame)}",
        expected="TCP on OS-chosen ports passes both ways between all hosts",
        fix=_rule_to_add(evidence, blame, cause),
    )


def _subject(blame: Blame, hosts: int) -> str:
    several = len(blame.peers) > 1
    peers = (
        f"all {len(blame.peers)} peers" if several and len(blame.peers) == hosts - 1 else fold(blame.peers)
    )
    if blame.side == "all":
        return "TCP between all hosts, both ways," if len(blame.hosts) > 2 else "TCP, both ways,"
    if blame.side == "both":
        return f"TCP from and to {peers}"
    if blame.side == "outbound":
        return f"outbound TCP to {peers}"
    return f"inbound TCP from {peers}"


def _master_is_open(evidence: Evidence, blame: Blame) -> str:
    """The classic trap: the one port that everybody tests is open, all the others are not."""
    masters = [
        dial
        for dial in evidence.reachability.dials
        if dial.kind == "master" and dial.target in blame.hosts and dial.source in blame.peers
    ]
    if masters and blame.side != "outbound" and all(dial.result == "ok" for dial in masters):
        return f"; master port {masters[0].port} is open, the ports the OS chooses are not"
    return ""


def _rule_to_add(evidence: Evidence, blame: Blame, cause: str) -> str:
    if cause in ("silent", "no-route"):
        return "check cable, VLAN and routes between the hosts: ip route get ADDRESS"
    if cause == "foreign":
        return "look for a second machine with this address, or a transparent proxy: ip neigh"
    host = blame.hosts[0]
    low, high = evidence.facts[host].port_range if host in evidence.facts else (32768, 60999)
    subnet = evidence.network.subnet
    single = subnet and "," not in subnet
    if blame.side == "outbound":
        towards = f" -d {subnet}" if single else ""
        return f"sudo iptables -I OUTPUT -p tcp{towards} --dport {low}:{high} -j ACCEPT"
    source = f" -s {subnet}" if single else ""
    ufw = f"sudo ufw allow proto tcp from {subnet if single else 'any'} to any port {low}:{high}"
    return f"{ufw}\nsudo iptables -I INPUT -p tcp{source} --dport {low}:{high} -j ACCEPT"


def _pmtu(evidence: Evidence) -> Iterator[Verdict]:
    edges = _edges(evidence)
    stalled = {edge for edge, dials in edges.items() if any(dial.result == "stall" for dial in dials)}
    for blame in attribute(stalled, edges.keys()):
        mtus = sorted({entry.mtu for entry in evidence.network.hosts if entry.mtu})
        where = _subject(blame, len(evidence.facts)).replace("TCP", "large messages")
        yield Hit(
            hosts=blame.hosts,
            observed=f"{where} stall, small ones pass (MTU {' and '.join(map(str, mtus)) or 'unknown'})",
            expected="1 MB passes",
        )


def _nat(evidence: Evidence) -> Iterator[Verdict]:
    own = {
        host: {address.address for link in facts.interfaces for address in link.addresses}
        for host, facts in evidence.facts.items()
    }
    seen: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for (source, target), dials in _edges(evidence).items():
        for dial in dials:
            if dial.seen and source in own and dial.seen not in own[source]:
                seen[source, dial.seen].add(target)
    for (source, address), peers in seen.items():
        yield Hit(
            hosts=(source,),
            observed=f"seen as {address}, which is not its own, by {fold(sorted(peers))}",
            expected="its own address",
        )


def _egress(evidence: Evidence) -> Iterator[Verdict]:
    """Traffic to the chosen network must leave by the chosen interface."""
    chosen = {entry.host: entry.ifname for entry in evidence.network.hosts}
    astray: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for (source, target), dials in _edges(evidence).items():
        for dial in dials:
            if dial.device and dial.device != "lo" and source in chosen and dial.device != chosen[source]:
                astray[source, dial.device].add(target)
    for (source, device), peers in astray.items():
        yield Hit(
            hosts=(source,),
            observed=f"traffic to {fold(sorted(peers))} leaves by {device} instead of {chosen[source]}",
            expected=f"a route by {chosen[source]}",
        )


def _master_port(evidence: Evidence) -> Iterator[Verdict]:
    reachability = evidence.reachability
    first = evidence.network.hosts[0].host if evidence.network.hosts else evidence.inventory.names[0]
    if reachability.master_error:
        yield Hit(hosts=(first,), observed=reachability.master_error, expected="a free port on rank 0's host")
        return
    if reachability.master_port is None:
        yield NotKnown(first, "no master port was tried")
        return
    address = evidence.network.hosts[0].address if evidence.network.hosts else ""
    failed: defaultdict[str, set[str]] = defaultdict(set)
    for dial in reachability.dials:
        if dial.kind == "master" and dial.result not in ("ok", "stall") and dial.address in (address, ""):
            failed[_cause(dial)].add(dial.source)
    for cause, sources in failed.items():
        yield Hit(
            hosts=(first,),
            observed=f"port {reachability.master_port}: connections from {fold(sorted(sources))} "
            f"are {_CAUSES[cause]}",
            expected="open to every host",
            fix=f"sudo ufw allow proto tcp from {evidence.network.subnet or 'any'} "
            f"to any port {reachability.master_port}",
        )
    low, high = evidence.facts[first].port_range if first in evidence.facts else (0, 0)
    if low <= reachability.master_port <= high and evidence.setting(first, "MASTER_PORT"):
        yield Hit(
            hosts=(first,),
            observed=f"port {reachability.master_port} is inside {low}-{high}, from which the OS chooses",
            expected="a port outside that range",
            severity="warn",
            fix="clusterctl chooses one by itself; by hand, MASTER_PORT=29500",
        )


RULES: tuple[Rule, ...] = (
    Rule(
        code="net.backconnect",
        severity="fail",
        looks_at="connections between all hosts, both ways, on ports that the OS chose",
        judge=_asked(_backconnect),
        symptom="the ranks join the store, then NCCL or Gloo hangs at the first collective",
    ),
    Rule(
        code="net.pmtu",
        severity="fail",
        looks_at="1 MB each way over every connection",
        judge=_asked(_pmtu),
        symptom="init passes and the first large all-reduce hangs",
        fix="sudo ip link set dev NAME mtu 1500 on both ends, or raise the MTU of the switch between",
    ),
    Rule(
        code="net.nat",
        severity="fail",
        looks_at="the sender's address as the listener sees it",
        judge=_asked(_nat),
        symptom="peers cannot connect back",
        fix="put the hosts into one network without address translation between them",
    ),
    Rule(
        code="net.egress",
        severity="fail",
        looks_at="the interface by which traffic to the chosen network leaves",
        judge=_asked(_egress),
        symptom="half the bandwidth, or a hang: NCCL does not bind outgoing connections",
        fix="ip route get ADDRESS; give each interface a subnet of its own, or a source routing rule",
    ),
    Rule(
        code="net.master-port",
        severity="fail",
        looks_at="a listener on rank 0's master port, dialled from every host",
        judge=_asked(_master_port),
        symptom="EADDRINUSE on rank 0, or the other ranks wait for the store until they time out",
        fix="choose another: --env MASTER_PORT=29501",
    ),
)
