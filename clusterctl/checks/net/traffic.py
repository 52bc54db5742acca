"""What passed between hosts: OS-chosen ports both ways, large payloads, addresses seen."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from clusterctl.checks.net import firewall
from clusterctl.checks.net.paths import NO_WAY, Paths, edges, reaching_themselves, with_traffic
from clusterctl.checks.remedy import Fix, Remedy, ifname, shell
from clusterctl.checks.remedy import address as address_of
from clusterctl.checks.rule import Blocked, Evidence, Hit, NotKnown, Rule, Verdict
from clusterctl.facts.model import Dial
from clusterctl.inventory.fold import fold
from clusterctl.network.attribution import Blame, attribute, explained
from clusterctl.network.candidates import borne

ETHERNET_MTU = 1500
FEW_PEERS = 8


def _backconnect(evidence: Evidence) -> Iterator[Verdict]:
    yield from _unheard(evidence)
    yield from _untried(evidence)
    paths = Paths(evidence, edges(evidence))
    full = evidence.reachability.neighbours.keys()
    for edge in sorted(edge for edge in paths.failed if edge[0] in full):
        del paths.failed[edge]
        yield Blocked(edge[0], "its neighbour table was full: net.neighbours")
    for edge in sorted(paths.unanswerable()):
        del paths.failed[edge]
        yield Blocked(edge[0], f"{edge[1]} has no route back")
    translated = {verdict.hosts[0] for verdict in _nat(evidence) if isinstance(verdict, Hit)}
    for edge in sorted(edge for edge in paths.failed if edge[1] in translated):
        del paths.failed[edge]
        yield Blocked(edge[1], "its address is another one to its peers: net.nat")
    yield from paths.undecided()
    for found in paths.blames():
        yield from _blocked(evidence, paths, found)


def _untried(evidence: Evidence) -> Iterator[Verdict]:
    for (host, peer), address in sorted(reaching_themselves(evidence).items()):
        yield Blocked(host, f"it bears {address} of {peer} itself: ip.duplicate")


def _unheard(evidence: Evidence) -> Iterator[Verdict]:
    """Hosts that could not listen, or never told what they dialled."""
    bearers = Counter(address for facts in evidence.facts.values() for address in borne(facts))
    for host, reason in evidence.reachability.listen_errors.items():
        if host in evidence.facts and bearers[evidence.facts[host].ssh_address] > 1:
            yield Blocked(host, "others bear its address too: ip.duplicate")
        else:
            yield NotKnown(host, f"it could not listen: {reason}")
    if len(evidence.facts) > 1:
        sources = {dial.source for dial in evidence.reachability.dials if dial.kind != "nccl"}
        for host in evidence.facts:
            if host not in sources and host not in evidence.reachability.listen_errors:
                yield NotKnown(host, "it did not tell which peers it reached")


_IN_BETWEEN = (
    "let TCP pass in the router, switch or security group that joins the two groups: within each of them it "
    "does pass"
)


def _blocked(evidence: Evidence, paths: Paths, found: Blame) -> Iterator[Hit]:
    """One hit for each host at fault: each may have another firewall."""
    broken = explained(found, paths.failed.keys())
    dials = [dial for edge in sorted(broken) for dial in paths.failed[edge]]
    partly = " on some of the ports tried" if broken <= paths.partly else ""
    if _is_one_way(found, len(evidence.facts)) and paths.either_end(broken):
        yield from _at_either_end(evidence, paths, found, dials, partly)
        return
    observed = (
        f"{_subject(found, len(evidence.facts))} {paths.describe(dials)}{partly}"
        f"{_master_is_open(evidence, found)}"
    )
    for host in found.hosts:
        yield Hit(
            hosts=(host,),
            observed=observed,
            expected="TCP on OS-chosen ports passes both ways between all hosts",
            fix=_rule_to_add(evidence, host, found, {dial.result for dial in dials}),
            cause=observed,
        )


def _is_one_way(found: Blame, hosts: int) -> bool:
    """One path alone: nobody else's traffic tells which of its ends is sick."""
    return (
        found.side in ("inbound", "pair") and len(found.peers) == 1 and (hosts == 2 or found.side == "pair")
    )


def _at_either_end(
    evidence: Evidence, paths: Paths, found: Blame, dials: Sequence[Dial], partly: str
) -> Iterator[Hit]:
    """A listener that answers with a reset is the likelier end; of silence either is."""
    (target,), (source,) = found.hosts, found.peers
    causes = {dial.result for dial in dials}
    ends = [(target, found)]
    if causes == {"timeout"}:
        ends.append((source, Blame("outbound", (source,), (target,))))
    observed = (
        f"TCP from {source} to {target} {paths.describe(dials)}{partly}: {target} does not let it in, or "
        f"{source} does not let it out{_master_is_open(evidence, found)}"
    )
    for host, blame in ends:
        yield Hit(
            hosts=(host,),
            observed=observed,
            expected="TCP on OS-chosen ports passes both ways between all hosts",
            fix=_rule_to_add(evidence, host, blame, causes),
            cause=observed,
        )


def _subject(blame: Blame, hosts: int) -> str:
    several = len(blame.peers) > 1
    peers = (
        f"all {len(blame.peers)} peers" if several and len(blame.peers) == hosts - 1 else fold(blame.peers)
    )
    if blame.side == "all":
        return "TCP between all hosts, both ways," if len(blame.hosts) > 2 else "TCP, both ways,"
    if blame.side == "between":
        return f"TCP between {fold(blame.hosts)} and {peers}, both ways,"
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


def _rule_to_add(evidence: Evidence, host: str, blame: Blame, causes: set[str]) -> Remedy:
    if blame.side == "between" and causes <= NO_WAY | {"timeout", "prohibited"}:
        return Remedy(advice=_IN_BETWEEN)
    if causes <= NO_WAY:
        peer = next((entry.address for entry in evidence.network.hosts if entry.host in blame.peers), "")
        advice = "check cable, VLAN and routes between the hosts"
        if not peer:
            return Remedy(advice=advice)
        return shell("ip route get {}", values=(address_of(peer),), looks=True, advice=advice)
    if causes == {"foreign"}:
        advice = "look for a second machine with this address, or a transparent proxy"
        return shell("ip neigh", looks=True, advice=advice)
    facts = evidence.facts.get(host)
    ports = facts.port_range if facts else (32768, 60999)
    subnet = evidence.network.subnet
    subnet = "" if "," in subnet else subnet
    return (firewall.outbound if blame.side == "outbound" else firewall.inbound)(facts, ports, subnet)


def _pmtu(evidence: Evidence) -> Iterator[Verdict]:
    heavy = {
        edge: [dial for dial in dials if dial.bulk and dial.result in ("ok", "stall")]
        for edge, dials in edges(evidence).items()
    }
    stalled = {edge for edge, dials in heavy.items() if any(dial.result == "stall" for dial in dials)}
    for found in attribute(stalled, {edge for edge, dials in heavy.items() if dials}):
        mtus = sorted({entry.mtu for entry in evidence.network.hosts if entry.mtu})
        where = _subject(found, len(evidence.facts)).replace("TCP", "large messages")
        observed = f"{where} stall, small ones pass (MTU {' and '.join(map(str, mtus)) or 'unknown'})"
        for host in found.hosts:
            yield Hit(
                hosts=(host,),
                observed=observed,
                expected="1 MB passes",
                fix=_smaller(evidence, host, found),
                cause=observed,
            )


def _smaller(evidence: Evidence, host: str, blame: Blame) -> Fix:
    """What a host says of its MTU when it connects, its peers heed: one end is enough."""
    entry = evidence.network.of(host)
    if entry and entry.mtu > ETHERNET_MTU:
        return shell(
            "sudo ip link set dev {} mtu {}",
            values=(ifname(entry.ifname), ETHERNET_MTU),
            instead=("raise the MTU of the switch between",),
            until_boot=True,
        )
    peer = next((other.address for other in evidence.network.hosts if other.host in blame.peers), "")
    advice = "find the tunnel or the VLAN on the way that takes less, and raise its MTU"
    if not peer:
        return advice
    return shell("tracepath -n {}", values=(address_of(peer),), looks=True, advice=advice)


def _nat(evidence: Evidence) -> Iterator[Verdict]:
    own = {
        host: {address.address for link in facts.interfaces for address in link.addresses}
        for host, facts in evidence.facts.items()
    }
    seen: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for (source, target), dials in edges(evidence).items():
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
    for (source, target), dials in edges(evidence).items():
        for dial in dials:
            if dial.device and dial.device != "lo" and source in chosen and dial.device != chosen[source]:
                astray[source, dial.device].add(target)
    for (source, device), peers in astray.items():
        yield Hit(
            hosts=(source,),
            observed=f"traffic to {fold(sorted(peers))} leaves by {device} instead of {chosen[source]}",
            expected=f"a route by {chosen[source]}",
            fix=_routed(evidence, source, sorted(peers)),
        )


def _routed(evidence: Evidence, host: str, peers: Sequence[str]) -> Remedy:
    """The most specific route wins, whatever else leads there."""
    own = evidence.network.of(host)
    targets = [entry.address for entry in evidence.network.hosts if entry.host in peers]
    advice = "give each interface a subnet of its own, or a source routing rule"
    if own is None or not targets or len(targets) > FEW_PEERS:
        return Remedy(advice=advice)
    words = [(address_of(target), ifname(own.ifname), address_of(own.address)) for target in targets]
    return shell(
        *["sudo ip route replace {} dev {} src {}"] * len(words),
        values=tuple(word for each in words for word in each),
        instead=(advice,),
        until_boot=True,
    )


RULES: tuple[Rule, ...] = (
    Rule(
        code="net.backconnect",
        severity="fail",
        looks_at="connections between all hosts, beyond 64 a sample of the pairs, on ports that the OS chose",
        judge=with_traffic(_backconnect),
        symptom="the ranks join the store, then NCCL or Gloo hangs at the first collective",
    ),
    Rule(
        code="net.pmtu",
        severity="fail",
        looks_at="1 MB each way between the hosts, beyond 32 of them over a sample of the pairs",
        judge=with_traffic(_pmtu),
        symptom="init passes and the first large all-reduce hangs",
        fix="set the MTU of the interface to 1500, or raise that of the switch between",
    ),
    Rule(
        code="net.nat",
        severity="fail",
        looks_at="the sender's address as the listener sees it",
        judge=with_traffic(_nat),
        symptom="peers cannot connect back",
        fix="put the hosts into one network without address translation between them",
    ),
    Rule(
        code="net.egress",
        severity="fail",
        looks_at="the interface by which traffic to the chosen network leaves",
        judge=with_traffic(_egress),
        symptom="half the bandwidth, or a hang: NCCL does not bind outgoing connections",
        fix="give each interface a subnet of its own, or a source routing rule",
    ),
)
