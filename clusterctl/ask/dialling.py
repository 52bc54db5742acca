"""Visits between hosts that all listen: made, repeated alone where they failed, told as dials."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from itertools import groupby
from typing import Any

import msgspec

from clusterctl.ask.collector import FactCollector
from clusterctl.facts.model import Dial, Facts, Flow
from clusterctl.messages.examination import DialAll, Dialled
from clusterctl.network import flows, repeats
from clusterctl.network.attribution import Edge
from clusterctl.network.candidates import borne, machine
from clusterctl.network.dials import Listener, Order, is_sampled, orders, plan_dials
from clusterctl.settings import ASK

MEASUREMENTS = 4
PACKETS = 100
"""On each of so many connections; one every hundredth of a second."""


class Dialling:
    """Visits of hosts that all listen, and what was heard of them in the end."""

    def __init__(
        self,
        collector: FactCollector,
        ranks: Sequence[str],
        opened: Mapping[str, tuple[Listener, ...]],
        facts: Mapping[str, Facts],
        *,
        all_pairs: bool,
        greeting: bool = True,
        without: Set[Edge] = frozenset(),
    ) -> None:
        """``ranks`` are the hosts in the order in which they answer for themselves; without ``greeting``
        nobody does, and a handshake is all there is. No edge in ``without`` is tried."""
        self.dials: tuple[Dial, ...] = ()
        self.neighbours: dict[str, int] = {}
        self._collector = collector
        self._ranks = ranks
        self._opened = opened
        self._all_pairs = all_pairs
        self._greeting = greeting
        self._without = without
        machines = Counter(machine(facts[host]) for host in opened)
        # Two entries for one machine share its addresses, and reach one another there.
        alone = [host for host in opened if machines[machine(facts[host])] == 1]
        self._bears = {host: frozenset(borne(facts[host])) for host in alone}

    def visit_all(self) -> None:
        plan = plan_dials(self._opened, all_pairs=self._all_pairs, bears=self._bears)
        self.dials = self._visit(
            {
                source: tuple(each for each in made if (source, each.target) not in self._without)
                for source, made in plan.items()
            }
        )

    def repeat(self) -> None:
        """Dial again what failed, alone. What cannot be confirmed in time is nobody's fault."""
        deadline = time.monotonic() + ASK.repeat_timeout
        if is_sampled(len(self._opened), all_pairs=self._all_pairs):
            self._try_others()
        repeated: set[Edge] = set()
        while time.monotonic() < deadline:
            wave = repeats.next_wave(self.dials, repeated)
            if not wave:
                break
            again = self._again(wave)
            told = {(dial.source, dial.target) for dial in again}
            self.dials = repeats.merged(self.dials, again)
            self._doubt(set(wave) - told, "and was not told of when repeated")
            # Where all that was repeated passed now, the edge's other failures have yet to be repeated.
            repeated |= repeats.failed(again)
        self._doubt(repeats.unconfirmed(self.dials, repeated), "and could not be repeated alone")

    def measure_again(self, addresses: Mapping[str, str]) -> None:
        """What seems lossy or slow at its address in ``addresses``: small packets now and then, which no link
        loses for want of speed, and the megabyte again, alone."""

        def chosen() -> list[Dial]:
            return [
                dial for dial in self.dials if dial.is_path and dial.address == addresses.get(dial.target)
            ]

        deadline = time.monotonic() + ASK.repeat_timeout
        doubted = set(flows.edges_to_repeat(chosen(), flows.losing(chosen())))
        if doubted:
            plan = _measuring(chosen(), doubted, MEASUREMENTS, bulk=False)
            measured = self._visit(plan, packets=PACKETS, phase="looking for packets that get lost")
            self._keep(measured, steady=True)
        for edge in flows.edges_to_repeat(chosen(), [side for side, _ in flows.slow(chosen())]):
            if time.monotonic() < deadline:
                self._keep(self._visit(_measuring(chosen(), {edge}, 1, bulk=True), scouts=False), alone=True)

    def _keep(self, measured: Iterable[Dial], *, alone: bool = False, steady: bool = False) -> None:
        self.dials += tuple(
            msgspec.structs.replace(dial, flow=msgspec.structs.replace(dial.flow, alone=alone, steady=steady))
            for dial in measured
            if dial.result == "ok" and dial.flow
        )

    def _doubt(self, edges: Set[Edge], reason: str) -> None:
        self.dials = tuple(
            repeats.unsettled(dial, reason)
            if dial.result not in repeats.NOT_FAILED and (dial.source, dial.target) in edges
            else dial
            for dial in self.dials
        )

    def _again(self, wave: Iterable[Edge]) -> tuple[Dial, ...]:
        plan: defaultdict[str, list[Order]] = defaultdict(list)
        for dial in repeats.worth_repeating(self.dials, wave):
            plan[dial.source].append(Order(dial.target, dial.address, dial.port, dial.kind, dial.bulk))
        return self._visit(plan, scouts=False)

    def _try_others(self) -> None:
        """Beyond the sample: each suspect with three hosts that are none."""
        sick = repeats.suspects(self.dials)
        asked = {(dial.source, dial.target) for dial in self.dials}
        plan: defaultdict[str, list[Order]] = defaultdict(list)
        for suspect in sick:
            for source, target in repeats.others(tuple(self._opened), suspect, asked, set(sick)):
                borne_here = self._bears.get(source, frozenset())
                heard = (each for each in self._opened[target] if each.address not in borne_here)
                plan[source] += orders(target, heard, thorough=True)
        self.dials = repeats.merged(self.dials, self._visit(plan))

    def _visit(
        self,
        plan: Mapping[str, Collection[Order]],
        *,
        scouts: bool = True,
        packets: int = 0,
        phase: str = "",
    ) -> tuple[Dial, ...]:
        """Every host in the plan makes its visits; the dials of those that told, as they told them.

        Without ``scouts`` every dial is a visit of its own.
        """
        kept = {host: tuple(found) for host, found in plan.items() if found}
        told = self._collector.ask(
            Dialled,
            {
                host: DialAll(
                    peers=tuple(
                        tuple((each.address, each.port, each.bulk) for each in visit)
                        for visit in (_visits(found) if scouts else ((each,) for each in found))
                    ),
                    dial_timeout=ASK.dial_timeout,
                    reply_timeout=ASK.reply_timeout,
                    timeout=ASK.traffic_timeout,
                    greeting=self._greeting,
                    packets=packets,
                )
                for host, found in kept.items()
            },
            ASK.traffic_timeout + ASK.tell_timeout,
            phase=phase if scouts else repeats.in_words(_edges(kept)),
        )
        for host, answer in told.items():
            if answer.neighbours_refused:
                self.neighbours[host] = self.neighbours.get(host, 0) + answer.neighbours_refused
        dials = [dial for host, answer in told.items() for dial in self._dials(host, kept[host], answer)]
        if not scouts:
            dials = [_departed(dial, told[dial.source], dials) for dial in dials]
        silent = kept.keys() - told.keys()
        return tuple(
            repeats.unsettled(dial, f"while {dial.target} itself did not answer us")
            if dial.target in silent and dial.result not in repeats.NOT_FAILED
            else dial
            for dial in dials
        )

    def _dials(self, host: str, made: tuple[Order, ...], answer: Dialled) -> Iterable[Dial]:
        """A peer of which nothing is told is one for which there was no time."""
        told = {made[each.order].target for each in answer.results if each.order < len(made)}
        for order in made:
            if order.target not in told:
                told.add(order.target)
                yield _dial(host, order, result="unsettled", detail="there was no time left to dial it")
        for each in answer.results:
            if each.order >= len(made):
                continue
            order = made[each.order]
            known = each.rank is not None and each.rank < len(self._ranks)
            answered = self._ranks[each.rank or 0] if known else ""
            other = answered not in ("", order.target)
            yield _dial(
                host,
                order,
                result="foreign" if other else each.result,
                seconds=each.seconds,
                seen=each.seen,
                device=each.device,
                detail=f"{answered} answered" if other else each.detail,
                rejected_by=each.rejected_by,
                answered=answered,
                flow=Flow(**msgspec.structs.asdict(each.flow)) if each.flow else None,
            )


def _departed(dial: Dial, told: Dialled, dials: Iterable[Dial]) -> Dial:
    """Whether what a host got no answer to left it at all, where it dialled nothing else meanwhile."""
    if dial.result != "timeout" or told.kept_back is None:
        return dial
    unanswered = sum(each.source == dial.source and each.result == "timeout" for each in dials)
    if told.kept_back == 0:
        return msgspec.structs.replace(dial, departed=True)
    # Of each request the kernel has asked again at least twice.
    return msgspec.structs.replace(dial, departed=False) if told.kept_back >= 2 * unanswered else dial


def _measuring(
    dials: Iterable[Dial], edges: Set[Edge], most: int, *, bulk: bool
) -> dict[str, tuple[Order, ...]]:
    """``most`` ports of each edge that were dialled before and passed."""
    ports: defaultdict[Edge, list[Order]] = defaultdict(list)
    for dial in dials:
        edge = (dial.source, dial.target)
        if edge in edges and dial.kind == "ephemeral" and dial.result == "ok" and len(ports[edge]) < most:
            ports[edge].append(Order(dial.target, dial.address, dial.port, dial.kind, bulk))
    plan: defaultdict[str, tuple[Order, ...]] = defaultdict(tuple)
    for (source, _), made in ports.items():
        plan[source] += tuple(made)
    return dict(plan)


def _edges(plan: Mapping[str, Iterable[Order]]) -> set[Edge]:
    return {(source, each.target) for source, made in plan.items() for each in made}


def _dial(source: str, order: Order, **told: Any) -> Dial:
    return Dial(
        source=source,
        target=order.target,
        address=order.address,
        port=order.port,
        kind=order.kind,
        bulk=order.bulk,
        **told,
    )


def _visits(orders: Iterable[Order]) -> Iterable[tuple[Order, ...]]:
    return (tuple(visit) for _, visit in groupby(orders, key=lambda order: order.target))
