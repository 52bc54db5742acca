"""A run as it is written down, and what a later controller makes of that."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from clusterctl.errors import ClusterctlError
from clusterctl.session.intent import Ready, recall, write_down
from clusterctl.session.retyped import retyped
from clusterctl.store.runs import RunDirectory, find_run
from tests.test_session_again import Hosts, ended, hosts, names

__all__ = ["hosts"]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CLUSTERCTL_HOME", str(tmp_path / "home"))
    return tmp_path


def kept(ready: Ready) -> RunDirectory:
    directory = RunDirectory.create(ready.plan) if ready.plan.attempt == 1 else find_run(ready.plan.run)
    write_down(directory, ready)
    return directory


def profile(text: str) -> str:
    Path("p.yaml").write_text(text)
    return "p.yaml"


def test_the_next_attempt_is_the_same_whoever_plans_it(hosts: Hosts) -> None:
    Path(os.fsdecode(b"no\xfftext.py")).write_text("odd")
    first = hosts.prepare(spares="1", env=("A_TOKEN=hush", "B=1"))
    found = recall(kept(first), {"A_TOKEN": "hush"})
    assert found is not None and found.lacks == () and found.without == "" == found.way_out
    assert found.ready.intent.workload.tree == first.intent.workload.tree
    hosts.dead = {"node2"}
    attempt = ended(lost="node2", hosts=names(first))
    again = hosts.again(found.ready, attempt)
    assert again.plan == hosts.again(first, attempt).plan
    assert names(again) == ("node1", "node4", "node3")
    second = recall(kept(again), {"A_TOKEN": "hush"})
    assert second is not None and [each.name for each in second.ready.intent.spares] == ["node2"]


def test_no_secret_is_in_a_file_and_what_is_missing_is_said(hosts: Hosts) -> None:
    first = hosts.prepare(env=("A_TOKEN=hush", "TOKENIZERS_PARALLELISM=false"))
    directory = kept(first)
    for path in directory.path.rglob("*.json"):
        assert "hush" not in path.read_text() and path.stat().st_mode & 0o077 == 0
    found = recall(directory, {})
    assert found is not None and found.lacks == ("A_TOKEN",)
    assert found.without == "A_TOKEN was never written down"
    assert found.way_out == f"A_TOKEN=... clusterctl attach {directory.run} brings it"


@pytest.mark.parametrize(
    ("text", "lacks"),
    [
        ("hosts: {node1: {env: {A_KEY: one}}, node2: {env: {A_KEY: two}}}", "A_KEY"),
        ("activate: export B_TOKEN=hush", "the activation line of its profile"),
    ],
)
def test_what_no_environment_can_bring_back(hosts: Hosts, text: str, lacks: str) -> None:
    first = hosts.prepare(profile=profile(text))
    found = recall(kept(first), {"A_KEY": "one", "B_TOKEN": "hush"})
    assert found is not None and found.lacks == (lacks,)
    assert found.way_out == "a new launch has it"


def test_a_run_of_an_earlier_version_has_nothing_and_a_damaged_one_says_so(hosts: Hosts) -> None:
    first = hosts.prepare()
    directory = RunDirectory.create(first.plan)
    assert recall(directory, {}) is None
    directory.write("intent.json", {"intent": {"run": 7}, "clock_offsets": {}, "different": [], "files": {}})
    with pytest.raises(ClusterctlError, match=r"intent\.json cannot be read"):
        recall(directory, {})


def test_what_to_type_to_have_it_once_more(hosts: Hosts) -> None:
    wanted: dict[str, Any] = {
        "spares": "1",
        "env": ("A_TOKEN=hush", "B=1 2"),
        "hang_timeout": 90.0,
        "on_end": "x A_TOKEN=hush",
    }
    found = recall(kept(hosts.prepare(**wanted)), {})
    assert found is not None
    typed = retyped(found.ready.intent)
    assert "hush" not in " ".join(typed)
    assert typed[0] == "-H" and typed[1].endswith("hostfile")
    assert typed[2:] == (
        *(
            "--nodes",
            "4",
            "--on-end",
            typed[5],
            "--spares",
            "1",
            "--max-restarts",
            "3",
            "--hang-timeout",
            "90s",
        ),
        *("--env", "A_TOKEN", "--env", "B=1 2"),
    )


def test_hosts_and_slots_that_were_chosen_are_chosen_again(hosts: Hosts) -> None:
    Path("hostfile").write_text("".join(f"node{n} slots=4\n" for n in range(1, 5)))
    intent = hosts.prepare().intent
    some = intent.target.hosts.inventory.hosts[1:3]
    assert retyped(intent.with_hosts(some, ()))[2:4] == ("-i", "node2@node3")
    two = tuple(msgspec.structs.replace(each, slots=(0, 1)) for each in intent.target.hosts.inventory.hosts)
    assert retyped(intent.with_hosts(two, ()))[2:6] == ("--nodes", "4", "--gpus-per-node", "2")
    odd = (msgspec.structs.replace(two[0], slots=(1, 3)), *two[1:])
    assert retyped(intent.with_hosts(odd, ()))[3].startswith("node1:1,3@node2:0,1@")
