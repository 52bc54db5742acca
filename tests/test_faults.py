"""The fault matrix without hosts: exactly the codes on exactly the hosts, nothing else above a note."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from clusterctl.checks.families import RULES
from clusterctl.facts.machine import KernelLog, Xid
from tests.fact_sets import Case, above_a_note, judged, on
from tests.faults import facts, hosts, page, real
from tests.faults.facts import FAULTS, ODD
from tests.faults.facts_single import HELD_ELSEWHERE, ONLY_NOTES
from tests.faults.outcome import Outcome, pairs
from tests.faults.pairs import pairs as pairs_of_faults


@pytest.mark.parametrize("case", FAULTS, ids=lambda case: case.name)
def test_it_is_named_on_its_host_and_nothing_else_is(case: Case) -> None:
    assert above_a_note(judged(case)) == case.expected


@pytest.mark.parametrize("case", ODD, ids=lambda case: case.name)
def test_it_is_healthy(case: Case) -> None:
    found = judged(case)
    assert above_a_note(found) == {}
    assert found.verdict == "ready"


def test_two_faults_on_two_hosts_are_both_told_and_nothing_else() -> None:
    drawn = list(pairs_of_faults(seed=1, most=200))
    found = {case.name: above_a_note(judged(case)) for case in drawn}
    assert found == {case.name: case.expected for case in drawn}
    assert len(found) > 150


def test_there_are_forty_and_each_is_named_once() -> None:
    names = [case.name for case in ODD]
    assert len(names) == len(set(names)) >= 40


def test_the_page_tells_of_every_group_of_rows_on_hosts_and_of_none_that_is_gone() -> None:
    """New rows are in it when they have been measured: make faults"""
    rows = counted(outcome for cluster in hosts.EVERY for outcome in real.compared(cluster, frozenset()))
    text = page.PAGE.read_text(encoding="utf-8")
    idle = page.counts(text, page.IDLE)
    assert idle.keys() == rows.keys()
    assert all(faults <= rows[group][0] and odd <= rows[group][1] for group, (faults, odd) in idle.items())
    busy = page.counts(text, page.BUSY)
    assert all(faults <= rows[group][0] for group, (faults, _) in busy.items())
    assert sum(healthy for _, healthy in busy.values()) >= 40


def test_the_page_promises_no_more_rows_of_facts_than_there_are() -> None:
    told = page.counts(page.PAGE.read_text(encoding="utf-8"), page.FACTS)
    now = counted(facts.outcome(case, pairs(case.expected)) for case in (*facts.FAULTS, *facts.ODD))
    assert told.pop(facts.PAIRS)[0] >= 20
    assert told.keys() <= now.keys()
    assert all(now[group] >= each for group, each in told.items())


def counted(outcomes: Iterable[Outcome]) -> dict[str, tuple[int, int]]:
    """Group -> faults and healthy rows."""
    found: dict[str, tuple[int, int]] = {}
    for each in outcomes:
        faults, healthy = found.get(each.group, (0, 0))
        found[each.group] = (faults + bool(each.wanted), healthy + (not each.wanted))
    return found


def test_every_rule_that_can_complain_has_its_fault() -> None:
    held = {code for case in FAULTS for code in case.expected}
    assert {rule.code for rule in RULES} - held - ONLY_NOTES == set(HELD_ELSEWHERE)


def test_an_xid_that_a_reset_may_have_cured_since_stops_nobody() -> None:
    old = KernelLog(xids=(Xid(code=48, device="0000:11:00", age=10_000.0),))
    found = judged(Case(name="old", alter=(on("node2", kernel_log=old),), gpus=2))
    assert [(each.code, each.severity) for each in found.findings if each.severity != "info"] == [
        ("gpu.xid", "warn")
    ]
    assert found.verdict == "ready"
