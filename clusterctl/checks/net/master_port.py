"""The port on which rank 0 holds the store: free there, and open to every host."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Set

import msgspec

from clusterctl.checks.net import firewall
from clusterctl.checks.net.paths import Paths, edges, with_traffic
from clusterctl.checks.remedy import at_launch
from clusterctl.checks.rule import Blocked, Evidence, Hit, NotKnown, Rule, Verdict
from clusterctl.facts.model import Dial
from clusterctl.inventory.fold import fold
from clusterctl.network.attribution import CULPRIT_FRACTION, Edge


def _master_port(evidence: Evidence) -> Iterator[Verdict]:
    reachability = evidence.reachability
    first = evidence.network.hosts[0].host if evidence.network.hosts else evidence.inventory.names[0]
    if reachability.master_error:
        yield Hit(hosts=(first,), observed=reachability.master_error, expected="a free port on rank 0's host")
        return
    if reachability.master_port is None:
        yield NotKnown(first, "no master port was tried")
        return
    yield from _who_reaches_it(evidence, first)
    low, high = evidence.facts[first].port_range if first in evidence.facts else (0, 0)
    if low <= reachability.master_port <= high and evidence.setting(first, "MASTER_PORT"):
        yield Hit(
            hosts=(first,),
            observed=f"port {reachability.master_port} is inside {low}-{high}, from which the OS chooses",
            expected="a port outside that range",
            severity="warn",
            fix="clusterctl chooses one by itself; by hand, MASTER_PORT=29500",
        )


def _who_reaches_it(evidence: Evidence, first: str) -> Iterator[Verdict]:
    """A path that is broken on every port is another rule's. Of the others: rank 0 is to blame where most do
    not get through, or where it says so itself; else the few hosts that do not."""
    address = evidence.network.hosts[0].address if evidence.network.hosts else ""
    dialled: defaultdict[Edge, list[Dial]] = defaultdict(list)
    for dial in evidence.reachability.dials:
        if dial.kind == "master" and dial.address in (address, ""):
            dialled[dial.source, dial.target].append(dial)
    paths, whole = Paths(evidence, dialled), Paths(evidence, edges(evidence))
    for edge in sorted(paths.failed.keys() & (whole.failed.keys() - whole.partly)):
        del paths.failed[edge]
        yield Blocked(edge[0], "no port of rank 0 can be reached from there: net.backconnect")
    yield from paths.undecided()
    theirs = {source for found in paths.witnessed() if found.side == "outbound" for source in found.hosts}
    ours = {source for found in paths.witnessed() if found.side == "inbound" for source in found.peers}
    # A reset comes from whoever refuses the connection, and that is the listener's end far more often.
    ours |= {
        source
        for (source, _), dials in paths.failed.items()
        if {dial.result for dial in dials} == {"refused"}
    } - theirs
    others = {source for source, _ in paths.failed} - theirs - ours
    most = len(others) >= 2 and len(others) >= CULPRIT_FRACTION * (len(others) + len(paths.open))
    if most or len(evidence.facts) == 2:
        ours |= others
    else:
        theirs |= others
    yield from _closed(evidence, paths, first, ours - theirs)
    yield from _not_let_out(evidence, paths, first, theirs)


def _closed(evidence: Evidence, paths: Paths, first: str, sources: Set[str]) -> Iterator[Verdict]:
    if sources:
        port = evidence.reachability.master_port or 0
        yield Hit(
            hosts=(first,),
            observed=f"port {port}: connections from {fold(sorted(sources))} are {_how(paths, sources)}"
            f"{_or_by_themselves(evidence, paths, sources)}",
            expected="open to every host",
            fix=firewall.inbound(evidence.facts.get(first), (port, port), _one(evidence.network.subnet)),
        )


def _or_by_themselves(evidence: Evidence, paths: Paths, sources: Set[str]) -> str:
    broken = [edge for edge in paths.failed if edge[0] in sources]
    if len(evidence.facts) > 2 or not paths.either_end(broken):
        return ""
    return f", here or by {fold(sorted(sources))} on their way out"


def _not_let_out(evidence: Evidence, paths: Paths, first: str, sources: Set[str]) -> Iterator[Verdict]:
    if sources:
        port = evidence.reachability.master_port or 0
        observed = f"connections to port {port} of {first} are {_how(paths, sources)}, others get through"
        opened = firewall.inbound(evidence.facts.get(first), (port, port), "")
        there = " && ".join(opened.commands) or opened.advice
        for host in sorted(sources):
            own = firewall.outbound(evidence.facts.get(host), (port, port), _one(evidence.network.subnet))
            yield Hit(
                hosts=(host,),
                observed=observed,
                expected="open to every host",
                fix=msgspec.structs.replace(own, instead=(*own.instead, f"on {first}: {there}")),
                cause=observed,
            )


def _one(subnet: str) -> str:
    """Several subnets are more than one line could name."""
    return "" if "," in subnet else subnet


def _how(paths: Paths, sources: Set[str]) -> str:
    return paths.describe(
        [dial for (source, _), dials in paths.failed.items() if source in sources for dial in dials]
    )


RULES: tuple[Rule, ...] = (
    Rule(
        code="net.master-port",
        severity="fail",
        looks_at="a listener on rank 0's master port, dialled from every host",
        judge=with_traffic(_master_port),
        symptom="EADDRINUSE on rank 0, or the other ranks wait for the store until they time out",
        fix=at_launch("MASTER_PORT=29501"),
    ),
)
