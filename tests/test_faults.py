"""The fault matrix without hosts: exactly the codes on exactly the hosts, nothing else above a note."""

from __future__ import annotations

import pytest

from clusterctl.checks.families import RULES
from clusterctl.facts.machine import KernelLog, Xid
from tests.fact_sets import Case, above_a_note, judged, on
from tests.faults.facts import FAULTS, ODD
from tests.faults.facts_single import HELD_ELSEWHERE, ONLY_NOTES
from tests.faults.pairs import pairs


@pytest.mark.parametrize("case", FAULTS, ids=lambda case: case.name)
def test_it_is_named_on_its_host_and_nothing_else_is(case: Case) -> None:
    assert above_a_note(judged(case)) == case.expected


@pytest.mark.parametrize("case", ODD, ids=lambda case: case.name)
def test_it_is_healthy(case: Case) -> None:
    found = judged(case)
    assert above_a_note(found) == {}
    assert found.verdict == "ready"


def test_two_faults_on_two_hosts_are_both_told_and_nothing_else() -> None:
    drawn = list(pairs(seed=1, most=200))
    found = {case.name: above_a_note(judged(case)) for case in drawn}
    assert found == {case.name: case.expected for case in drawn}
    assert len(found) > 150


def test_there_are_forty_and_each_is_named_once() -> None:
    names = [case.name for case in ODD]
    assert len(names) == len(set(names)) >= 40


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
