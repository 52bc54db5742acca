"""Hosts played by the test listen and dial: what the controller makes of what they tell."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import msgspec
import pytest

from clusterctl.ask import dialling
from clusterctl.ask.mesh import reach
from clusterctl.facts.model import Facts, Reachability
from clusterctl.messages.examination import (
    DialAll,
    Dialled,
    DialResult,
    FlowTold,
    Listen,
    Listening,
    OpenPort,
)
from clusterctl.settings import ASK
from tests.builders import cluster

Outcome = Callable[[str, str, int], str]
"""(source, target, how often this was dialled before) -> result of the dial."""


class Players:
    """In the place of a FactCollector: every host opens one port on each address and dials at once."""

    def __init__(self, count: int, outcome: Outcome, silent: str = "") -> None:
        self.present: dict[str, Facts] = cluster(count)
        self.silent = silent
        self.rounds: list[set[tuple[str, str]]] = []
        self.phases: list[str] = []
        self.kept_back: dict[str, int] = {}
        self.flow: Callable[[str, str, int], FlowTold | None] = lambda source, target, packets: None
        self.answering: dict[str, str] = {}
        self._outcome = outcome
        self._owners: dict[str, str] = {}
        self._ranks: dict[str, int] = {}
        self._dialled: dict[tuple[str, str], int] = {}

    def ask(
        self,
        kind: type[msgspec.Struct],
        questions: Mapping[str, msgspec.Struct],
        timeout: float,
        *,
        phase: str = "",
    ) -> dict[str, msgspec.Struct]:
        if kind is Dialled:
            self.rounds.append(set())
            self.phases.append(phase)
        told = {host: self._answer(host, question) for host, question in questions.items()}
        if kind is Dialled:
            told.pop(self.silent, None)
        return told

    def _answer(self, host: str, question: msgspec.Struct) -> msgspec.Struct:
        if isinstance(question, Listen):
            self._ranks[host] = question.rank
            self._owners |= dict.fromkeys(question.addresses, host)
            ports = [OpenPort(address, 40000, "ephemeral") for address in question.addresses]
            return Listening(listeners=tuple(ports), master_port=29500)
        assert isinstance(question, DialAll)
        results = []
        for position, (address, _, bulk) in enumerate(dial for visit in question.peers for dial in visit):
            target = self._owners[address]
            before = self._dialled.get((host, target), 0)
            self._dialled[host, target] = before + 1
            self.rounds[-1].add((host, target))
            who = self._ranks[self.answering.get(target, target)]
            flow = self.flow(host, target, question.packets) if bulk or question.packets else None
            outcome = self._outcome(host, target, before)
            results.append(DialResult(position, outcome, 0.1, "", "eth0", "", "", who, flow))
        return Dialled(results=tuple(results), kept_back=self.kept_back.get(host))


def reached(players: Players) -> tuple[Reachability, dict[tuple[str, str], str]]:
    found = reach(players, everywhere=True, all_pairs=False, master_port=None, preferred=29500).reachability  # type: ignore[arg-type]
    return found, {(dial.source, dial.target): dial.result for dial in found.dials}


def test_what_failed_while_all_dialled_and_passes_alone_is_open() -> None:
    players = Players(
        6, lambda source, target, before: "timeout" if target == "node2" and not before else "ok"
    )
    _, results = reached(players)
    assert len(results) == 6 * 5
    assert set(results.values()) == {"ok"}
    first, *later = players.rounds
    assert len(first) == 30
    for wave in later:
        ends = [host for edge in wave for host in edge]
        assert len(ends) == len(set(ends)), "a repeated dial was not alone"


def test_what_fails_again_stays_failed_and_needs_two_paths() -> None:
    players = Players(6, lambda source, target, before: "timeout" if target == "node2" else "ok")
    _, results = reached(players)
    assert {edge for edge, result in results.items() if result == "timeout"} == {
        (f"node{number}", "node2") for number in (1, 3, 4, 5, 6)
    }
    assert [len(wave) for wave in players.rounds[1:]] == [1, 1]
    assert players.phases == ["", "again, alone: node1 → node2", "again, alone: node3 → node2"]


def test_without_time_to_repeat_nobody_is_blamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialling, "ASK", dataclasses.replace(ASK, repeat_timeout=0.0))
    found, results = reached(
        Players(3, lambda source, target, before: "refused" if target == "node2" else "ok")
    )
    assert results["node1", "node2"] == results["node3", "node2"] == "unsettled"
    (dial, *_) = [dial for dial in found.dials if dial.target == "node2"]
    assert dial.detail == "it failed once (refused), and could not be repeated alone"


def test_a_host_that_does_not_tell_is_not_blamed_for_not_answering() -> None:
    players = Players(
        4, lambda source, target, before: "timeout" if target == "node3" else "ok", silent="node3"
    )
    found, results = reached(players)
    assert {results[f"node{number}", "node3"] for number in (1, 2, 4)} == {"unsettled"}
    assert not [dial for dial in found.dials if dial.source == "node3"]


def test_another_host_that_answers_is_no_success() -> None:
    players = Players(3, lambda source, target, before: "ok")
    players.answering["node2"] = "node3"
    found, results = reached(players)
    assert results["node1", "node2"] == "foreign"
    assert {dial.answered for dial in found.dials if dial.target == "node2"} == {"node3"}


def test_beyond_64_hosts_a_suspect_is_tried_by_three_more() -> None:
    players = Players(70, lambda source, target, before: "timeout" if source == "node9" else "ok")
    found, results = reached(players)
    assert found.sampled
    assert len(results) < 70 * 16
    first, others, *_ = players.rounds
    assert len(others) == 6
    assert all("node9" in edge and edge not in first for edge in others)
    assert {source for (source, _), result in results.items() if result == "timeout"} == {"node9"}


@pytest.mark.parametrize(("kept_back", "departed"), [(0, True), (2, False), (1, None), (None, None)])
def test_the_senders_kernel_tells_whether_a_request_left_it(
    kept_back: int | None, departed: bool | None
) -> None:
    players = Players(2, lambda source, target, before: "timeout" if source == "node1" else "ok")
    players.kept_back = {} if kept_back is None else {"node1": kept_back}
    found, _ = reached(players)
    (dial,) = [each for each in found.dials if each.source == "node1" and each.kind != "master"]
    assert (dial.result, dial.departed) == ("timeout", departed)


def measured(players: Players) -> Reachability:
    found = reach(players, everywhere=True, all_pairs=False, master_port=None, preferred=29500)  # type: ignore[arg-type]
    found.measure_again({host: facts.ssh_address for host, facts in players.present.items()})
    return found.reachability


def always_ok(source: str, target: str, before: int) -> str:
    return "ok"


def test_what_seems_slow_is_measured_again_alone() -> None:
    players = Players(5, always_ok)
    players.flow = lambda source, target, packets: FlowTold(
        1 << 20, 2.0 if source == "node3" else 0.01, 725, 0, 0.001, 0.001
    )
    alone = [dial for dial in measured(players).dials if dial.flow and dial.flow.alone]
    assert [(dial.source, dial.target) for dial in alone] == [("node3", "node4"), ("node3", "node5")]
    assert [len(wave) for wave in players.rounds] == [20, 1, 1]


def test_where_anything_was_sent_again_small_packets_are_sent() -> None:
    players = Players(5, always_ok)
    players.flow = lambda source, target, packets: FlowTold(
        packets or 1 << 20, 0.01, packets or 725, 7 if target == "node3" else 0, 0.001, 0.001
    )
    steady = [dial for dial in measured(players).dials if dial.flow and dial.flow.steady]
    assert {(dial.source, dial.target) for dial in steady} == {("node1", "node3"), ("node2", "node3")}
    assert {dial.flow.packets for dial in steady if dial.flow} == {100}
    assert players.phases == ["", "looking for packets that get lost"]


def test_where_all_is_well_nothing_is_measured_again() -> None:
    players = Players(5, always_ok)
    players.flow = lambda source, target, packets: FlowTold(1 << 20, 0.01, 725, 0, 0.001, 0.001)
    measured(players)
    assert len(players.rounds) == 1
