"""All rows that are made of facts, judged."""

from __future__ import annotations

from collections.abc import Iterator

from tests.fact_sets import Case, above_a_note, judged
from tests.faults import facts_machines, facts_mounts, facts_odd, facts_rdma, facts_single
from tests.faults.outcome import Outcome, Pair, pairs
from tests.faults.pairs import pairs as pairs_of_faults

FAULTS = (*facts_single.FAULTS, *facts_rdma.FAULTS, *facts_machines.FAULTS, *facts_mounts.FAULTS)
ODD = (*facts_odd.ODD, *facts_rdma.ODD, *facts_machines.ODD, *facts_mounts.ODD)


PAIRS = "two at once, on two hosts"


def outcomes(most_pairs: int = 0) -> Iterator[Outcome]:
    """Every row, and so many pairs of faults; all pairs when 0."""
    for case in (*FAULTS, *ODD):
        yield outcome(case, _found(case))
    for case in pairs_of_faults(most=most_pairs):
        yield Outcome(PAIRS, case.name, pairs(case.expected), _found(case))


def outcome(case: Case, found: frozenset[Pair]) -> Outcome:
    """In the group of the family that must be named."""
    group = min(case.expected).partition(".")[0] if case.expected else "odd clusters"
    return Outcome(group, case.name, pairs(case.expected), found)


def _found(case: Case) -> frozenset[Pair]:
    return pairs(above_a_note(judged(case)))
