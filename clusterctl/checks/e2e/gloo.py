"""End to end: ranks on all hosts did what training does first. Who is late is unknown, never at fault."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator

import msgspec

from clusterctl.checks.net import firewall
from clusterctl.checks.remedy import shell
from clusterctl.checks.rule import Blocked, Evidence, Hit, NotKnown, Rule, Skipped, Verdict
from clusterctl.facts.e2e import AllReduce, Rank
from clusterctl.inventory.fold import fold
from clusterctl.network.candidates import borne

STAGES = {
    "": "did not begin",
    "begun": "began, but has no connection to the store of rank 0",
    "store": "reached the store, but is not connected with all others",
    "group": "is connected with all others, but has not finished its all-reduce",
    "reduced": "finished",
}
_ORDER = tuple(STAGES)
_NO_INTERFACE = re.compile(r"Unable to find address for: (\S+)")
_REFUSED = {
    "Connection refused": "refused",
    "No route to host": "rejected: no route to host",
    "Network is unreachable": "impossible: the network is unreachable from there",
    "Permission denied": "forbidden by a firewall of its own",
}
_CUT_OFF = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "recvValue failed")
"""What a rank says whose peer has gone: seldom the first fault."""
_LATE = ("imed out", "imeout")
_ADDRESS = re.compile(r"\[?(\d+\.\d+\.\d+\.\d+|[0-9a-f]*:[0-9a-f:]+:[0-9a-f]+)\]?[:\]]")


class _Cut(msgspec.Struct, frozen=True):
    """Two hosts between which something does not pass, seen from ``source``."""

    source: str
    target: str
    how: str


def _gloo(evidence: Evidence) -> Iterator[Verdict]:
    trial = evidence.proof.gloo
    if trial is None:
        yield Skipped("not asked with --quick" if evidence.quick else "no all-reduce was asked for")
    elif trial.skipped:
        yield Skipped(trial.skipped)
    elif trial.blocked:
        yield from (Blocked(host, trial.blocked) for host in evidence.facts)
    else:
        yield from (Blocked(host, why) for host, why in trial.left_out.items())
        yield from judged(evidence, trial)


def judged(evidence: Evidence, trial: AllReduce) -> Iterator[Verdict]:
    """Who is at fault, who could not be judged, and who only waited for them."""
    ranks = [rank for rank in trial.ranks if rank.host in evidence.facts]
    verdicts: list[Hit | NotKnown] = [*_own_faults(evidence, ranks), *_cuts(evidence, trial, ranks)]
    if not verdicts:
        verdicts += _cut_off(ranks)
    if not verdicts:
        verdicts += _missing(trial, ranks)
    yield from verdicts
    named = {host for each in verdicts for host in (each.hosts if isinstance(each, Hit) else (each.host,))}
    for host in dict.fromkeys(rank.host for rank in ranks if not rank.done):
        if host not in named:
            yield Blocked(host, f"its rank waited for {fold(sorted(named))}")


def _own_faults(evidence: Evidence, ranks: list[Rank]) -> Iterator[Hit]:
    """What a rank says of its own host."""
    for rank in ranks:
        if rank.missing:
            absent = tuple(dict.fromkeys(each.host for each in ranks if each.rank in rank.missing))
            yield Hit(
                hosts=absent,
                observed="its part is not in the sum",
                expected="a sum of all ranks",
                cause="sum",
            )
        if rank.ended:
            yield Hit(
                hosts=(rank.host,),
                observed=f"its rank was {rank.ended}, when it {STAGES[rank.stage]}",
                expected="a rank that stays",
                cause=f"ended {rank.ended}",
                fix=shell("journalctl -k --since -10min", looks=True),
            )
        elif found := _NO_INTERFACE.search(rank.error):
            has = ", ".join(
                link.name for link in evidence.facts[rank.host].interfaces if link.kind != "loopback"
            )
            yield Hit(
                hosts=(rank.host,),
                observed=f"gloo finds no interface of the name {found[1]} (GLOO_SOCKET_IFNAME)",
                expected=f"one of: {has}",
                cause=found[0],
                fix="unset GLOO_SOCKET_IFNAME: clusterctl sets it per host",
            )
        elif rank.error and not _how_cut(rank.error) and not _is_cut_off(rank.error):
            yield Hit(
                hosts=(rank.host,),
                observed=f"its rank {STAGES[rank.stage]}: {_first_line(rank.error)}",
                expected="a sum of all ranks",
                cause=_first_line(rank.error),
            )


def _cuts(evidence: Evidence, trial: AllReduce, ranks: list[Rank]) -> Iterator[Hit]:
    """Connections that kernels refused, or left without an answer."""
    owners = {address: host for host, facts in evidence.facts.items() for address in borne(facts)} | {
        entry.address: entry.host for entry in evidence.network.hosts
    }
    owners[trial.master_addr] = ranks[0].host if ranks else ""
    cuts = set()
    for rank in ranks:
        for address, kind in rank.unanswered:
            how = "without an answer" if kind == "connect" else "cut: what was sent has no answer"
            cuts.add(_Cut(rank.host, owners.get(address, address), how))
        if (how := _how_cut(rank.error)) and not rank.unanswered:
            address = _peer(rank.error) or (trial.master_addr if rank.stage == "begun" else "")
            cuts.add(_Cut(rank.host, owners.get(address, address), how))
    behind = {rank.host for rank in ranks if rank.stage in ("", "begun")}
    by_culprit: defaultdict[tuple[str, ...], list[_Cut]] = defaultdict(list)
    for cut in sorted(cuts, key=lambda each: (each.source, each.target)):
        by_culprit[_culprits(cut, cuts, behind, evidence)].append(cut)
    for hosts, found in by_culprit.items():
        targets = sorted({cut.target for cut in found})
        sources = sorted({cut.source for cut in found})
        yield Hit(
            hosts=hosts,
            observed=f"connections from {fold(sources)} to {fold(targets)} are {found[0].how}",
            expected="every rank connects with every other",
            cause=f"{hosts}",
            fix=firewall.inbound(
                evidence.facts.get(targets[0]),
                evidence.facts[targets[0]].port_range if targets[0] in evidence.facts else (1024, 65535),
                "",
            ),
        )


def _culprits(cut: _Cut, cuts: set[_Cut], behind: set[str], evidence: Evidence) -> tuple[str, ...]:
    """One end, where it is at an end of several; the one that reaches nobody, where others reach the store;
    else both."""
    with_target = {each.source for each in cuts if each.target == cut.target}
    with_source = {each.target for each in cuts if each.source == cut.source}
    if len(with_target) > max(1, len(with_source)):
        return tuple(host for host in (cut.target,) if host in evidence.facts) or (cut.source,)
    if len(with_source) > max(1, len(with_target)):
        return (cut.source,)
    if cut.source in behind and len(behind) * 2 < len(evidence.facts) + 1:
        return (cut.source,)
    return tuple(host for host in sorted({cut.source, cut.target}) if host in evidence.facts)


def _cut_off(ranks: list[Rank]) -> Iterator[Hit | NotKnown]:
    """Ranks whose peers went away, though none of them says why."""
    for rank in ranks:
        if rank.error and _is_late(rank.error):
            yield NotKnown(rank.host, f"its rank {STAGES[rank.stage]}: {_first_line(rank.error)}")
        elif rank.error:
            yield Hit(
                hosts=(rank.host,),
                observed=f"its rank {STAGES[rank.stage]}: {_first_line(rank.error)}",
                expected="connections that stay",
                cause="cut off",
            )


def _missing(trial: AllReduce, ranks: list[Rank]) -> Iterator[NotKnown]:
    """Nobody failed, and it did not end: whoever stands behind the others, or was stopped, is waited for."""
    left = [rank for rank in ranks if not rank.done]
    for rank in left:
        if rank.state == "stopped":
            yield NotKnown(rank.host, f"its rank was stopped by a signal, when it {STAGES[rank.stage]}")
        elif rank.state == "silent":
            yield NotKnown(rank.host, "it does not answer any more")
    if not left or any(rank.state in ("stopped", "silent") for rank in left):
        return
    last = min(_ORDER.index(rank.stage) for rank in left)
    furthest = max(_ORDER.index(rank.stage) for rank in ranks)
    for rank in left:
        if _ORDER.index(rank.stage) == last:
            others = ", as others are" if furthest > last else ""
            slow = "; it was still at work" if rank.state == "works" else ""
            yield NotKnown(
                rank.host, f"within {trial.seconds:.0f} s its rank {STAGES[rank.stage]}{others}{slow}"
            )


def _how_cut(error: str) -> str:
    return next((how for words, how in _REFUSED.items() if words in error), "")


def _is_cut_off(error: str) -> bool:
    return any(words in error for words in _CUT_OFF) or _is_late(error)


def _is_late(error: str) -> bool:
    return any(words in error for words in _LATE)


def _peer(error: str) -> str:
    found = _ADDRESS.search(error)
    return found[1] if found else ""


def _first_line(error: str) -> str:
    return error.strip().splitlines()[0][:240] if error.strip() else ""


RULES: tuple[Rule, ...] = (
    Rule(
        code="e2e.gloo",
        severity="fail",
        looks_at="a real all-reduce over all hosts by gloo, one rank each, with the variables of a launch",
        judge=_gloo,
        symptom="the run hangs or dies at its first collective",
    ),
)
