"""Another attempt on hosts that answer without a network: who is used again, and who takes whose place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from clusterctl.session.again import prepare_again, suspects
from clusterctl.session.cluster import Cluster
from clusterctl.session.intent import Ready
from clusterctl.session.launch import prepare
from clusterctl.session.options import LaunchOptions
from clusterctl.session.refused import NotReadyError
from clusterctl.store.outcome import Attempt, Cause
from clusterctl.transport.protocol import Failure
from tests.builders import cluster, mesh
from tests.conftest import AnsweringHosts


class Hosts:
    """As many as ``count``; those in ``dead`` give no answer."""

    def __init__(self, answering: AnsweringHosts, count: int) -> None:
        self.answering = answering
        self.dead: set[str] = set()
        self.asked: list[tuple[str, ...]] = []
        answering.facts = cluster(count)
        Path("hostfile").write_text("".join(f"node{n} slots=1\n" for n in range(1, count + 1)))

    def ask(self, link: object, inventory: Any, request: Any, **more: Any) -> Any:
        self.asked.append(inventory.names)
        facts = {name: self.answering.facts[name] for name in inventory.names if name not in self.dead}
        answers = AnsweringHosts.ask(self.answering, link, inventory, request)
        failures = {
            name: Failure(host=name, stage="connect", message="no route to host")
            for name in inventory.names
            if name in self.dead
        }
        return msgspec.structs.replace(
            answers,
            facts=facts,
            failures=failures,
            reachability=mesh(facts, master_port=request.preferred_port),
        )

    def prepare(self, *, profile: str = "", **options: Any) -> Ready:
        wanted = LaunchOptions(script="train.py", max_restarts=3, **options)
        target = Cluster.from_hostfile(profile=profile).target
        return prepare(target, None, wanted, to_start=False).ready  # type: ignore[arg-type]

    def again(self, ready: Ready, *ended: Attempt) -> Ready:
        return prepare_again(ready.intent, None, ended)  # type: ignore[arg-type]


@pytest.fixture
def hosts(answering_hosts: AnsweringHosts, monkeypatch: pytest.MonkeyPatch) -> Hosts:
    found = Hosts(answering_hosts, 4)
    monkeypatch.setattr("clusterctl.session.examine.ask", found.ask)
    return found


def ended(number: int = 1, *, lost: str = "", blamed: str = "", hosts: tuple[str, ...]) -> Attempt:
    left: dict[str, int | None] = {host: None if host == lost else 0 for host in hosts}
    cause = Cause(kind="lost", message="lost", host=lost) if lost else None
    if blamed:
        cause = Cause(kind="exception", message="uncorrectable ECC error", host=blamed)
    status: Any = "lost" if lost else "failed"
    return Attempt(attempt=number, status=status, exit_code=1, cause=cause, hosts=hosts, left_behind=left)


def names(prepared: Ready) -> tuple[str, ...]:
    return tuple(node.host for node in prepared.plan.nodes)


def test_without_spares_the_same_hosts_run_again_on_another_port(hosts: Hosts) -> None:
    first = hosts.prepare()
    second = hosts.again(first, ended(hosts=names(first)))
    assert names(second) == names(first)
    assert (first.plan.run, first.plan.attempt) == (second.plan.run, 1)
    assert (second.plan.attempt, second.plan.master_port) == (2, first.plan.master_port + 1)


def test_spares_are_examined_but_get_no_ranks(hosts: Hosts) -> None:
    first = hosts.prepare(spares="1")
    assert (names(first), first.plan.world_size) == (("node1", "node2", "node3"), 3)
    assert hosts.asked == [("node1", "node2", "node3", "node4")]
    assert "spare: node4 stands by for a host that is lost" in first.plan.notes


def test_a_sick_spare_holds_up_nobody_and_is_named(hosts: Hosts) -> None:
    hosts.dead = {"node4"}
    first = hosts.prepare(spares="1")
    assert names(first) == ("node1", "node2", "node3")
    (note,) = [note for note in first.plan.notes if "spare" in note]
    assert note.startswith("the spare node4 is not ready: ")


@pytest.mark.parametrize("lost", ["node1", "node2"])
def test_a_spare_takes_the_node_rank_of_a_lost_host(hosts: Hosts, lost: str) -> None:
    first = hosts.prepare(spares="1")
    hosts.dead = {lost}
    second = hosts.again(first, ended(lost=lost, hosts=names(first)))
    wanted = tuple("node4" if name == lost else name for name in names(first))
    assert names(second) == wanted
    assert [node.ranks for node in second.plan.nodes] == [(0,), (1,), (2,)]
    assert second.plan.master_addr == second.plan.nodes[0].address


def test_a_host_that_turns_out_sick_at_the_second_look_is_replaced_too(hosts: Hosts) -> None:
    first = hosts.prepare(spares="1")
    hosts.dead = {"node3"}  # though what ended the attempt was a script
    assert names(hosts.again(first, ended(hosts=names(first)))) == ("node1", "node2", "node4")


def test_a_lost_host_is_used_again_without_a_spare_if_it_is_ready_and_not_otherwise(hosts: Hosts) -> None:
    first = hosts.prepare()
    attempt = ended(lost="node2", hosts=names(first))
    assert names(hosts.again(first, attempt)) == names(first)
    hosts.dead = {"node2"}
    with pytest.raises(NotReadyError):
        hosts.again(first, attempt)


def test_a_host_is_suspected_when_it_is_lost_or_its_machine_is_blamed_twice() -> None:
    two = ("a", "b")
    assert suspects([ended(lost="b", hosts=two)]) == {"b"}
    assert suspects([ended(blamed="b", hosts=two)]) == set()
    assert suspects([ended(1, blamed="b", hosts=two), ended(2, blamed="b", hosts=two)]) == {"b"}
