"""The address that libnccl itself takes for a run, and whether the peers reach it there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from clusterctl.checks.net import firewall
from clusterctl.checks.net.interfaces import over_chosen
from clusterctl.checks.net.paths import Paths, edges
from clusterctl.checks.rule import Blocked, Evidence, Hit, NotKnown, Passed, Rule, Skipped, Verdict
from clusterctl.facts.model import Dial, Facts, NcclPick
from clusterctl.inventory.fold import fold
from clusterctl.network.attribution import Edge
from clusterctl.network.ifname import NCCL
from clusterctl.network.model import HostNetwork
from clusterctl.network.nccl_rule import predict

_WHY = "the other ranks would be told to connect to an address that is not on the network chosen for the run"


def _nccl_pick(evidence: Evidence) -> Iterator[Verdict]:
    missing = ""
    asked = False
    for entry, facts in evidence.chosen:
        pick = facts.nccl
        if facts.python.error:
            yield Blocked(entry.host, "no python to ask it with")
            continue
        if pick is None or pick.missing:
            missing = missing or (pick.missing if pick else "")
            yield from () if pick else _by_its_rule(entry, facts)
            continue
        asked = True
        yield from _of_host(evidence, entry, facts, pick)
    if not asked or missing:
        yield Skipped(missing or ("not asked with --quick" if evidence.quick else "libnccl was not asked"))
    if asked:
        yield from _reached(evidence)


def _of_host(evidence: Evidence, entry: HostNetwork, facts: Facts, pick: NcclPick) -> Iterator[Verdict]:
    if pick.unknown:
        yield NotKnown(entry.host, pick.unknown)
        yield from _by_its_rule(entry, facts)
    elif pick.refused:
        yield Hit(
            hosts=(entry.host,),
            observed=f"NCCL{_of(pick)} finds no interface that it may use{_under(evidence, entry)}: "
            f"{pick.refused}",
            expected=f"it takes {entry.ifname}, {entry.address}",
            symptom="every rank of this host ends at its first NCCL call",
            cause=f"refused {pick.refused}",
            fix=_fix(evidence, entry.host),
        )
    elif pick.address != entry.address:
        yield Hit(
            hosts=(entry.host,),
            observed=f"NCCL{_of(pick)} would take {_name(facts, pick)}{_under(evidence, entry)}",
            expected=f"{entry.ifname}, {entry.address}: the network chosen for the run",
            symptom=_WHY,
            cause="pick",
            fix=_fix(evidence, entry.host),
        )
    else:
        yield Passed(entry.host)
        if evidence.setting(entry.host, NCCL) is None:
            yield from _by_itself(entry, facts, pick)


def _by_its_rule(entry: HostNetwork, facts: Facts) -> Iterator[Verdict]:
    """Predicted where libnccl did not say it."""
    predicted = predict(facts.interfaces, entry.env, _version(facts))
    if not predicted.unknown and predicted.address != entry.address:
        value = entry.env.get(NCCL, "")
        taken = f"take {predicted.ifname}, {predicted.address}" if predicted.address else "find no interface"
        yield Hit(
            hosts=(entry.host,),
            observed=f"by its rule NCCL would {taken}, with {NCCL}={value}; it was not asked",
            expected=f"{entry.ifname}, {entry.address}: the network chosen for the run",
            severity="warn",
            cause="rule",
            fix=f"unset {NCCL}: clusterctl sets it for each host",
        )


def _by_itself(entry: HostNetwork, facts: Facts, pick: NcclPick) -> Iterator[Verdict]:
    """What it would take without us: a note for who starts a run by hand."""
    predicted = predict(facts.interfaces, {}, pick.version)
    if not predicted.unknown and predicted.address not in ("", entry.address):
        yield Hit(
            hosts=(entry.host,),
            observed=f"without clusterctl's settings NCCL would take {predicted.ifname}, {predicted.address}",
            severity="info",
            cause="by itself",
        )


def _version(facts: Facts) -> str:
    """Of the NCCL that torch would load, as far as that is known without asking it."""
    wheels = (told for name, told in facts.python.packages.items() if name.startswith("nvidia-nccl"))
    return (facts.torch.nccl_version if facts.torch else "") or next(wheels, "")


def _of(pick: NcclPick) -> str:
    return f" {pick.version}" if pick.version else ""


def _name(facts: Facts, pick: NcclPick) -> str:
    for link in facts.interfaces:
        if pick.index in (0, link.index) and any(pick.address == each.address for each in link.addresses):
            return f"{link.name}, {pick.address}"
    return pick.address


def _under(evidence: Evidence, entry: HostNetwork) -> str:
    """The setting that the user wrote, where it was theirs."""
    setting = evidence.setting(entry.host, NCCL)
    value = setting.value if setting else entry.env.get(NCCL, "")
    origin = setting.origin if setting else entry.origins.get(NCCL, "")
    return f", with {NCCL}={value} ({origin})" if value else ""


def _fix(evidence: Evidence, host: str) -> str:
    if evidence.setting(host, NCCL) or any(each.name == NCCL for each in evidence.facts[host].variables):
        return f"unset {NCCL}: clusterctl sets it for each host"
    return "look for NCCL_ settings that win over it: clusterctl doctor --only sw.nccl-env -v"


def _reached(evidence: Evidence) -> Iterator[Verdict]:
    """Who could not connect to the very port that libnccl listened on, though the path is open otherwise."""
    dialled: defaultdict[Edge, list[Dial]] = defaultdict(list)
    for dial in evidence.reachability.dials:
        if dial.kind == "nccl":
            dialled[dial.source, dial.target].append(dial)
    paths, whole = Paths(evidence, dialled), Paths(evidence, edges(evidence))
    picks = {entry.host: facts.nccl for entry, facts in evidence.chosen}
    for edge in sorted(paths.failed.keys() & whole.failed.keys()):
        del paths.failed[edge]
        yield Blocked(edge[1], "ports of this host cannot be reached at all: net.backconnect")
    yield from paths.undecided()
    failed: defaultdict[str, set[str]] = defaultdict(set)
    for source, target in paths.failed:
        failed[target].add(source)
    for target, sources in failed.items():
        pick, dials = picks.get(target), [paths.failed[source, target] for source in sorted(sources)]
        if pick is not None:
            told = [dial for each in dials for dial in each]
            yield Hit(
                hosts=(target,),
                observed=f"NCCL listens on {pick.address} port {pick.port}, and connections to it from "
                f"{fold(sorted(sources))} are {paths.describe(told)}",
                expected="every peer reaches the port on which NCCL listens",
                symptom="the ranks join the store, then hang when NCCL starts",
                fix=firewall.inbound(
                    evidence.facts[target], evidence.facts[target].port_range, _one(evidence.network.subnet)
                ),
            )


def _one(subnet: str) -> str:
    return "" if "," in subnet else subnet


RULES: tuple[Rule, ...] = (
    Rule(
        code="net.nccl-pick",
        severity="fail",
        looks_at="the address and port that the host's own libnccl takes under the variables of the run, "
        "dialled by every peer; asked without a GPU",
        judge=over_chosen(_nccl_pick),
        needs=("interfaces",),
        symptom=_WHY,
    ),
)
