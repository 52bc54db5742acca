"""All rows that are made of facts, judged."""

from __future__ import annotations

from collections.abc import Iterator

from tests.fact_sets import Case, above_a_note, judged
from tests.faults import facts_machines, facts_mounts, facts_odd, facts_rdma, facts_single
from tests.faults.outcome import Outcome, pairs
from tests.faults.pairs import pairs as pairs_of_faults

FAULTS = (*facts_single.FAULTS, *facts_rdma.FAULTS, *facts_machines.FAULTS, *facts_mounts.FAULTS)
ODD = (*facts_odd.ODD, *facts_rdma.ODD, *facts_machines.ODD, *facts_mounts.ODD)


def outcomes(most_pairs: int = 0) -> Iterator[Outcome]:
    for case in FAULTS:
        yield _outcome(min(case.expected).partition(".")[0], case)
    for case in pairs_of_faults(most=most_pairs):
        yield _outcome("two at once, on two hosts", case)
    for case in ODD:
        yield _outcome("odd clusters", case)


def _outcome(group: str, case: Case) -> Outcome:
    return Outcome(group, case.name, pairs(case.expected), pairs(above_a_note(judged(case))))
