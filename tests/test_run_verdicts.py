"""Whole failures, from the rank that failed to the verdict, judged by the product on node and controller.

All between is at random: how soon peers notice, how long exits take, when the engine's and our orders arrive,
how late ends are noticed, how wrong clocks are, in which order hosts are heard.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from clusterctl.messages.events import Ended, EngineExited, RankError, RankExited, Stopping
from clusterctl.node.run.ends import was_told
from clusterctl.plan.model import Code, LaunchPlan, NodePlan
from clusterctl.run.actions import Finish
from clusterctl.run.machine import Machine
from clusterctl.store.outcome import Outcome

FAILED_AT = 1000.0
PEER = "[gloo/transport/tcp/pair.cc:553] Connection closed by peer [10.0.0.2]:4711"
SIGNALS = {"SIGKILL": 9, "SIGSEGV": 11, "SIGTERM": 15}


@dataclass
class Rank:
    """``ends``: when it would end by itself, with ``code``."""

    number: int
    ends: float
    code: int
    error: RankError | None = None
    asked: float | None = None
    late: float = 0.0

    def ask(self, at: float, rng: random.Random) -> None:
        """TERM: nothing here handles it. DeepSpeed sends it to the rank first, and then to its waiter."""
        if at < self.ends:
            self.ends, self.code = at + rng.uniform(0.0001, 0.01), 143
            self.asked = at if rng.random() < 0.7 else None

    @property
    def ended(self) -> float:
        return self.ends + self.late


def scene(rng: random.Random, hosts: int, slots: int, what: str) -> tuple[list[list[Rank]], int]:
    """Ranks by host, and which of them fails; the others notice, raise and take their time to exit."""
    culprit = rng.randrange(hosts * slots)
    slow = rng.choice((0.0, 1.5, 8.0))
    ranks = []
    for number in range(hosts * slots):
        if number == culprit and what == "raise":
            raised = RankError(type="KeyError", message="'x'", time=FAILED_AT)
            found = Rank(number, FAILED_AT + slow, 1, raised)
        elif number == culprit:
            found = Rank(number, FAILED_AT, 128 + SIGNALS[what] if what in SIGNALS else 7)
            found.late = rng.uniform(0, 1.0) if what == "SIGKILL" else 0.0
        elif rng.random() < 0.8:
            noticed = FAILED_AT + rng.uniform(0.001, 0.3)
            error = RankError(type="RuntimeError", message=PEER, time=noticed)
            found = Rank(number, noticed + rng.uniform(0, 2.0), 1, error)
        else:
            found = Rank(number, math.inf, 0)  # computes on: only a signal ends it
        ranks.append(found)
    return [ranks[host * slots : (host + 1) * slots] for host in range(hosts)], culprit


def events_of(ranks: list[Rank], stopped_at: float) -> list[Any]:
    """What the agent of one host tells, in order."""
    told: list[Any] = []
    ordered = False
    for rank in sorted(ranks, key=lambda rank: rank.ended):
        if not ordered and rank.ended > stopped_at:
            ordered = True
            told.append(Stopping(time=stopped_at, reason="", grace=1.5))
        signal = rank.code - 128 if rank.code > 128 else None
        end = {"signal": signal, "asked": rank.asked, "ended": rank.ended}
        error = msgspec.to_builtins(rank.error) if rank.error and rank.error.time <= rank.ends else None
        failed_before = any(isinstance(each, RankExited) for each in told)
        told.append(
            RankExited(
                time=rank.ended, rank=rank.number, code=rank.code, signal=signal, started=0.0,
                ended=rank.ended, peak_memory=0, error=rank.error if error else None,
                told=was_told(end, error, failed_before, stopped_at if ordered else None, None),
            )
        )  # fmt: skip
    last = told[-1].time
    return [*told, EngineExited(time=last + 0.1, code=1, told=True), Ended(time=last + 0.2, left=0)]


def play(rng: random.Random, hosts: list[list[Rank]]) -> Outcome:
    poll = rng.choice((0.1, 1.0))  # torchrun's and DeepSpeed's
    first = [min(rank.ended for rank in ranks) for ranks in hosts]
    everywhere = min(first) + rng.uniform(0.05, 1.5)
    told = []
    for ranks, failed in zip(hosts, first, strict=True):
        by_engine = failed + rng.uniform(0.0, poll)
        by_agent = failed + rng.uniform(0.0, 0.3)
        stopped_at = min(by_agent, everywhere)
        for rank in ranks:
            rank.ask(min(by_engine, stopped_at), rng)
            if math.isinf(rank.ends):
                raise AssertionError("a rank that nobody ended")
        told.append(events_of(ranks, stopped_at))
    errors = [rng.uniform(-0.1, 0.1) for _ in hosts]
    machine = Machine(plan([len(ranks) for ranks in hosts]), 0.0, FAILED_AT)
    actions: list[Any] = []
    while any(told):
        host = rng.choice([host for host, left in enumerate(told) if left])
        event = told[host].pop(0)
        raised = getattr(event, "error", None)
        at = (raised.time if raised else event.time) + errors[host]
        actions += machine.agent_event(host, event, at, 1.0)
        if isinstance(event, Ended):
            actions += machine.complete(host, 1.0)
    (outcome,) = [action.outcome for action in actions if isinstance(action, Finish)]
    found: Outcome = outcome
    return found


def plan(slots: list[int]) -> LaunchPlan:
    nodes, first = [], 0
    for node_rank, count in enumerate(slots):
        ranks = tuple(range(first, first + count))
        first += count
        nodes.append(
            NodePlan(
                host=f"h{node_rank}", node_rank=node_rank, slots=tuple(range(count)), declared_slots=count,
                ranks=ranks, address="10.0.0.1", ifname="eth0", python="/usr/bin/python3", settings=(),
            )
        )  # fmt: skip
    return LaunchPlan(
        run="r", start="torchrun", command=("{python}",), arguments=(), pass_local_rank=False,
        world_size=first, master_addr="10.0.0.1", master_port=29500,
        nodes=tuple(nodes), code=Code(root="/p"), hostfile="h",
    )  # fmt: skip


@pytest.mark.parametrize("what", ["raise", "exit", *SIGNALS])
@pytest.mark.parametrize(("hosts", "slots"), [(1, 2), (2, 2), (2, 16)])
def test_the_rank_that_failed_is_named_200_times_of_200(hosts: int, slots: int, what: str) -> None:
    wrong = []
    for seed in range(200):
        rng = random.Random(f"{seed} {hosts} {slots} {what}")
        ranks, culprit = scene(rng, hosts, slots, what)
        outcome = play(rng, ranks)
        code = {"raise": 1, "exit": 7}.get(what) or 128 + SIGNALS[what]
        if outcome.cause is None or (outcome.cause.rank, outcome.exit_code) != (culprit, code):
            wrong.append((seed, culprit, outcome.cause))
    assert wrong == []
