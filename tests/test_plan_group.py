"""Who takes part in the proof, where its store is, and with which variables."""

from __future__ import annotations

import msgspec

from clusterctl.facts.model import Facts, Reachability, TorchImport
from clusterctl.network.choose import choose
from clusterctl.plan.group import Group, one_rank_a_host
from clusterctl.plan.model import RunVariables
from tests.builders import altered, cluster, inventory, mesh

HOSTS = inventory(["node1", "node2", "node3"])


def group(facts: dict[str, Facts], reachability: Reachability | None = None) -> Group:
    reached = mesh(facts) if reachability is None else reachability
    variables = {host: RunVariables(address="10.0.0.1", python=host, env={}) for host in facts}
    return one_rank_a_host(HOSTS, facts, reached, choose(HOSTS, facts, reached), variables)


def test_every_host_takes_part_where_it_would_be_in_a_launch() -> None:
    found = group(cluster(3))
    assert [member.host for member in found.members] == ["node1", "node2", "node3"]
    assert [member.variables.python for member in found.members] == ["node1", "node2", "node3"]
    assert (found.master_addr, found.master_port) == (found.members[0].address, 29500)


def test_where_rank_0_cannot_take_part_the_next_host_has_the_store() -> None:
    facts = altered(cluster(3), "node1", torch=TorchImport(ok=False, error="ImportError: libx.so"))
    found = group(facts)
    assert [member.host for member in found.members] == ["node2", "node3"]
    assert (found.master_addr, found.master_port) == (found.members[0].address, 0)
    assert "sw.torch-import" in found.left_out["node1"]


def test_without_torch_anywhere_nobody_needs_it() -> None:
    facts = cluster(3)
    for host in facts:
        python = msgspec.structs.replace(facts[host].python, packages={})
        facts = altered(facts, host, python=python, torch=None)
    assert group(facts).skipped == "no torch on any host"


def test_where_connections_fail_already_it_is_not_tried() -> None:
    facts = cluster(3)
    reached = mesh(facts)
    dials = tuple(
        msgspec.structs.replace(dial, result="timeout") if dial.target == "node3" else dial
        for dial in reached.dials
    )
    found = group(facts, msgspec.structs.replace(reached, dials=dials))
    assert not found.members
    assert "connections between the hosts fail" in found.blocked


def test_a_connection_of_which_nobody_knows_is_no_obstacle() -> None:
    facts = cluster(3)
    reached = mesh(facts)
    dials = tuple(msgspec.structs.replace(dial, result="unsettled") for dial in reached.dials)
    assert len(group(facts, msgspec.structs.replace(reached, dials=dials)).members) == 3
