"""Dials gathered into paths: which are open, which are not and by whose fault, and which nobody knows."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from clusterctl.checks.rule import Evidence, Judge, NotKnown, Skipped, Verdict
from clusterctl.facts.model import Dial
from clusterctl.inventory.fold import fold
from clusterctl.network.attribution import Blame, Edge, Side, attribute, blame, explained
from clusterctl.network.candidates import borne, machine
from clusterctl.network.ifname import GLOO, NCCL

NOT_BLOCKED = frozenset({"ok", "stall", "connected", "unsettled"})
NO_WAY = frozenset({"no-host", "no-route", "unreachable"})
_CAUSES = {
    "timeout": "dropped (timeout)",
    "refused": "refused (TCP reset)",
    "prohibited": "rejected by a firewall (admin-prohibited)",
    "no-host": "unanswered (no such host on the wire)",
    "unreachable": "unreachable",
    "no-route": "without a route",
    "foreign": "answered by another service",
}


def with_traffic(judge: Judge) -> Judge:
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


def edges(evidence: Evidence) -> dict[Edge, list[Dial]]:
    """(source, target) -> the dials to the address that the target got in the chosen network.

    Where no network covers a host, all its addresses were tried in vain and speak for it; one that the user's
    choice of an interface leaves out says nothing.
    """
    chosen = {entry.host: entry.address for entry in evidence.network.hosts}
    out = {
        host
        for host in evidence.facts
        if chosen and host not in chosen and any(evidence.setting(host, name) for name in (NCCL, GLOO))
    }
    found: defaultdict[Edge, list[Dial]] = defaultdict(list)
    for dial in evidence.reachability.dials:
        if dial.target in out or dial.source in out:
            continue
        if dial.is_path and dial.address == chosen.get(dial.target, dial.address):
            found[dial.source, dial.target].append(dial)
    return dict(found)


def reaching_themselves(evidence: Evidence) -> dict[Edge, str]:
    """(host, peer) -> the address of the peer that the host bears too: neither way between them proves
    anything, for what the host sends to the peer comes to itself."""
    chosen = {entry.address: entry.host for entry in evidence.network.hosts if entry.host in evidence.facts}
    machines = {host: machine(facts) for host, facts in evidence.facts.items()}
    return {
        (host, chosen[address]): address
        for host, facts in evidence.facts.items()
        for address in borne(facts) & chosen.keys()
        if machines[host] != machines[chosen[address]]
    }


def _without_route(dials: Iterable[Dial]) -> bool:
    return all(dial.result == "no-route" for dial in dials)


class Paths:
    """What is known of each edge: it failed, on all ports or ``partly``; it is open; or nobody can say."""

    def __init__(self, evidence: Evidence, dialled: Mapping[Edge, Sequence[Dial]]) -> None:
        self.failed: dict[Edge, list[Dial]] = {}
        self.partly: set[Edge] = set()
        self.unknown: dict[Edge, Dial] = {}
        self.open: set[Edge] = set()
        self._own = {host: borne(facts) for host, facts in evidence.facts.items()}
        twins = {frozenset(edge) for edge in reaching_themselves(evidence)}
        for edge, dials in dialled.items():
            if edge[1] not in evidence.reachability.listen_errors and frozenset(edge) not in twins:
                self._sort(edge, dials)

    def _sort(self, edge: Edge, dials: Sequence[Dial]) -> None:
        bad = [dial for dial in dials if dial.result not in NOT_BLOCKED]
        good = [dial for dial in dials if dial.result in ("ok", "stall")]
        undecided = [dial for dial in dials if dial.result == "unsettled"]
        if bad:
            self.failed[edge] = bad
            if good:
                self.partly.add(edge)
        elif good and not undecided:
            self.open.add(edge)
        else:
            self.unknown[edge] = (undecided or list(dials))[0]

    def witnessed(self) -> list[Blame]:
        """Hosts that a message names as having rejected the connection themselves, and those whose own kernel
        did not let it out."""
        seen: defaultdict[tuple[Side, str], set[Edge]] = defaultdict(set)
        for edge, dials in self.failed.items():
            for dial in dials:
                if dial.result == "prohibited" and dial.rejected_by == dial.address:
                    seen["inbound", edge[1]].add(edge)
                elif dial.result == "prohibited" and self._is_own(edge[0], dial.rejected_by):
                    seen["outbound", edge[0]].add(edge)
        for host in self._keeping_back():
            seen["outbound", host] |= {edge for edge in self.failed if edge[0] == host}
        return [blame(side, host, broken) for (side, host), broken in sorted(seen.items())]

    def _keeping_back(self) -> set[str]:
        """Hosts whose kernel said of what was repeated, a part of what failed, that it never left them."""
        said: defaultdict[str, set[bool | None]] = defaultdict(set)
        for (source, _), dials in self.failed.items():
            said[source] |= {dial.departed for dial in dials}
        return {host for host, told in said.items() if False in told and True not in told}

    def blames(self) -> list[Blame]:
        """Who is at fault: who said so, and for what is left who explains most."""
        named = self.witnessed()
        left = self.failed.keys() - {edge for found in named for edge in explained(found, self.failed.keys())}
        return [*named, *map(self._of_its_own_table, attribute(left, left | self.open))]

    def _of_its_own_table(self, found: Blame) -> Blame:
        """A single host that has no route there is at fault itself."""
        broken = explained(found, self.failed.keys())
        sources = {source for source, _ in broken}
        if len(sources) == 1 and all(_without_route(self.failed[edge]) for edge in broken):
            return Blame("outbound", tuple(sources), tuple(sorted({target for _, target in broken})))
        return found

    def unanswerable(self) -> Iterator[Edge]:
        """Paths on which no answer can come: its target says itself that it has no route to the source."""
        for (source, target), dials in self.failed.items():
            back = self.failed.get((target, source), ())
            if back and _without_route(back) and not any(dial.result == "no-route" for dial in dials):
                yield source, target

    def either_end(self, broken: Iterable[Edge]) -> bool:
        """Whether of these paths it is not known that what was sent left its sender: either end may have kept
        it from passing."""
        dials = [dial for edge in broken for dial in self.failed[edge]]
        return not any(dial.departed or dial.result in NO_WAY or dial.rejected_by for dial in dials)

    def undecided(self) -> Iterator[NotKnown]:
        """What nobody can say is said of the host that was dialled."""
        sources: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        for (source, target), dial in self.unknown.items():
            if dial.result == "connected":
                reason = "its kernel accepted connections from {}, but its process did not answer in time"
            else:
                reason = f"TCP from {{}} is undecided: {dial.detail}"
            sources[target, reason].add(source)
        for (target, reason), peers in sources.items():
            yield NotKnown(target, reason.replace("{}", fold(sorted(peers))))

    def describe(self, dials: Sequence[Dial]) -> str:
        """How these failed, the most frequent way first.

        A firewall that rejects does not say so every time: kernels limit the rate of ICMP messages.
        """
        rejecting = {(dial.source, dial.target) for dial in dials if dial.result == "prohibited"}
        dials = [
            dial for dial in dials if dial.result != "timeout" or (dial.source, dial.target) not in rejecting
        ]
        causes = [cause for cause, _ in Counter(dial.result for dial in dials).most_common()]
        return " or ".join(
            dict.fromkeys(self._word([dial for dial in dials if dial.result == cause]) for cause in causes)
        )

    def _word(self, dials: Sequence[Dial]) -> str:
        others = {dial.answered for dial in dials if dial.answered} if dials[0].result == "foreign" else ()
        if others:
            return f"answered by {fold(sorted(others))}"
        word = _CAUSES.get(dials[0].result, "broken")
        between = {
            dial.rejected_by
            for dial in dials
            if dial.rejected_by not in ("", dial.address) and not self._is_own(dial.source, dial.rejected_by)
        }
        return f"{word} at {', '.join(sorted(between))}" if between else word

    def _is_own(self, host: str, address: str) -> bool:
        return bool(address) and address in self._own.get(host, ())
