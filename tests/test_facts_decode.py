"""Answers of strange nodes: a bad value costs itself, never the rest."""

from __future__ import annotations

import msgspec

from clusterctl.facts.decode import decode_facts, decode_torch
from tests.builders import healthy


def test_a_whole_answer_comes_back_as_it_was_sent() -> None:
    facts = healthy(1, gpus=2)
    assert decode_facts("node1", msgspec.to_builtins(facts)) == facts


def test_the_hosts_name_is_ours_and_not_what_it_calls_itself() -> None:
    facts = decode_facts("node1", {"host": "evil", "hostname": "other"}, noise="hello")
    assert (facts.host, facts.hostname, facts.noise) == ("node1", "other", "hello")


def test_a_bad_value_is_left_out_and_named() -> None:
    facts = decode_facts(
        "node1",
        {
            "cpus": "many",
            "user": "alice",
            "interfaces": [{"name": "eth0"}],
            "limits": None,
            "errors": ["disks: no answer within 5 s"],
            "from_a_newer_version": 1,
        },
    )
    assert (facts.cpus, facts.user, facts.interfaces) == (0, "alice", ())
    assert facts.errors[0] == "disks: no answer within 5 s"
    named = [error.partition(":")[0] for error in facts.errors]
    assert {"cpus", "interfaces", "limits"} < set(named)
    assert named.count("disks") == 1


def test_a_part_of_which_nothing_was_told_is_named() -> None:
    whole = msgspec.to_builtins(healthy(1))
    del whole["rdma"], whole["verbs_library"], whole["verbs_devices"], whole["peer_memory"]
    assert decode_facts("node1", whole).errors == ("rdma: the host told nothing of it",)


def test_an_import_that_does_not_say_it_worked_has_failed() -> None:
    assert not decode_torch({}).ok
    broken = decode_torch({"ok": "yes", "seconds": 1.0})
    assert not broken.ok and "ok:" in broken.error


def test_addresses_that_are_none_are_left_out_and_named() -> None:
    link = msgspec.to_builtins(healthy(1).interfaces[0])
    for address, prefix in (("not-an-ip", 24), ("10.0.0.1", 64)):
        sick = {**link, "addresses": [{"family": "inet", "address": address, "prefix": prefix}]}
        facts = decode_facts("node1", {"interfaces": [sick]})
        assert facts.interfaces == ()
        assert facts.errors[0].startswith("interfaces: ")
