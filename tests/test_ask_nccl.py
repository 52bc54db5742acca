"""Hosts played by the test tell what their libnccl takes, and dial one another's ports of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from clusterctl.ask.nccl import ask_nccl
from clusterctl.facts.model import Dial, Facts, NcclPick, Reachability
from clusterctl.messages.examination import AskNccl, DialAll, Dialled, DialResult, NcclAsked, NcclHeld
from clusterctl.plan.model import RunVariables
from tests.builders import cluster


class Players:
    """In the place of a FactCollector. ``blocked`` is a host whose port nobody reaches, ``gone`` one whose
    libnccl has ended by then, ``mute`` one that does not answer."""

    def __init__(self, facts: dict[str, Facts], *, blocked: str = "", gone: str = "", mute: str = "") -> None:
        self.present = facts
        self.blocked, self.gone, self.mute = blocked, gone, mute
        self.asked: dict[str, AskNccl] = {}
        self.dialled: list[tuple[str, str]] = []

    def ask(
        self,
        kind: type[msgspec.Struct],
        questions: Mapping[str, Any],
        timeout: float,
        *,
        phase: str = "",
    ) -> dict[str, Any]:
        if kind is NcclAsked:
            self.asked |= questions
            return {
                host: NcclAsked(nccl={"address": self.present[host].ssh_address, "port": 40000})
                for host in questions
                if host != self.mute
            }
        if kind is NcclHeld:
            return {host: NcclHeld(held=host != self.gone) for host in questions}
        assert kind is Dialled
        return {host: self._dial(host, question) for host, question in questions.items()}

    def _dial(self, host: str, question: DialAll) -> Dialled:
        assert not question.greeting
        owners = {facts.ssh_address: name for name, facts in self.present.items()}
        rows = []
        for position, (address, _, _) in enumerate(dial for visit in question.peers for dial in visit):
            target = owners[address]
            self.dialled.append((host, target))
            result = "refused" if target == self.blocked else "ok"
            rows.append(DialResult(position, result, 0.1, "", "eth0", "", "", None))
        return Dialled(results=tuple(rows))


def asked(
    players: Players, reachability: Reachability | None = None
) -> tuple[dict[str, NcclPick], dict[tuple[str, str], str]]:
    variables = {
        host: RunVariables(address=facts.ssh_address, python="/venv/bin/python", env={"NCCL_DEBUG": "INFO"})
        for host, facts in players.present.items()
    }
    picks, dials = ask_nccl(
        players,  # type: ignore[arg-type]
        players.present,
        variables,
        reachability=reachability or Reachability(),
        all_pairs=False,
    )
    assert {dial.kind for dial in dials} <= {"nccl"}
    return picks, {(dial.source, dial.target): dial.result for dial in dials}


def test_every_peer_dials_the_very_port_that_was_told() -> None:
    players = Players(cluster(3))
    picks, results = asked(players)
    assert {host: pick.port for host, pick in picks.items()} == dict.fromkeys(players.present, 40000)
    assert players.asked["node2"].env == {"NCCL_DEBUG": "INFO"}
    assert players.asked["node2"].python == "/venv/bin/python"
    assert len(results) == 6 and set(results.values()) == {"ok"}


def test_a_port_that_stays_closed_is_told_after_a_second_try() -> None:
    players = Players(cluster(3), blocked="node2")
    _, results = asked(players)
    assert results["node1", "node2"] == results["node3", "node2"] == "refused"
    assert players.dialled.count(("node1", "node2")) == 2


def test_a_port_whose_process_is_gone_says_nothing() -> None:
    _, results = asked(Players(cluster(3), blocked="node2", gone="node2"))
    assert results["node1", "node2"] == results["node3", "node2"] == "unsettled"


def test_paths_that_are_closed_anyway_are_not_tried() -> None:
    players = Players(cluster(3))
    address = players.present["node2"].ssh_address
    closed = Dial(source="node1", target="node2", address=address, port=1, kind="ephemeral", result="timeout")
    _, results = asked(players, Reachability(dials=(closed,)))
    assert ("node1", "node2") not in results
    assert results["node3", "node2"] == "ok"


def test_a_host_that_does_not_answer_is_unknown_and_dials_the_others() -> None:
    players = Players(cluster(3), mute="node3")
    picks, results = asked(players)
    assert picks["node3"].unknown == "the host did not tell what libnccl says"
    assert set(results) == {("node1", "node2"), ("node2", "node1"), ("node3", "node1"), ("node3", "node2")}
