"""What `clean` takes from a node and what it never does."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.node_program import ask

RUN = "20260101-120000-aaaa"
DAY = 86400.0


@pytest.fixture
def node(tmp_path: Path) -> Path:
    found = tmp_path / ".clusterctl/node"
    snapshot(found, "code")
    return found


def snapshot(node: Path, digest: str, *, age: float = DAY) -> Path:
    place = node / "snapshots" / digest
    place.mkdir(parents=True)
    (place / "train.py").write_text("x" * 9000)
    os.utime(place / "train.py", (1, 1))
    os.utime(place, (time.time() - age,) * 2)
    return place


def copy(node: Path, run: str = RUN, *, rank: int = 0, digest: str = "code", outputs: bool = False) -> Path:
    place = node / run / str(rank)
    (place / "work").mkdir(parents=True)
    (place / "origin.json").write_text(f'"{digest}"')
    (place / "work/train.py").write_text("x" * 9000)
    os.utime(place / "work/train.py", (1, 1))
    if outputs:
        (place / "work/model.pt").write_text("w" * 9000)
    return place


def clean(node: Path, *runs: str, rank: int = 0, dry_run: bool = False, take: bool = False) -> dict[str, Any]:
    parts = {run: {"node_rank": rank, "take_outputs": take} for run in runs or (RUN,)}
    request = {"runs": parts, "dry_run": dry_run}
    told = ask(
        "clean",
        request,
        ("run.directory", "run.log_limit", "run.snapshot", "shared.processes"),
        home=node.parents[1],
    )
    assert told[-1]["is"] == "done"
    return {"done": told[-1]} | {each["run"]: each for each in told[:-1]}


def test_a_copy_without_outputs_goes_and_its_code_with_it(node: Path) -> None:
    copy(node)
    dry = clean(node, dry_run=True)
    assert (node / RUN).is_dir()
    assert (node / "snapshots/code").is_dir()
    found = clean(node)
    assert found == dry, "a dry run says what would happen"
    assert found[RUN]["what"] == "removed"
    assert found[RUN]["bytes"] >= 9000
    assert (found["done"]["snapshots"], found["done"]["bytes"] >= 9000) == (1, True)
    assert [path.name for path in node.iterdir()] == ["snapshots"]
    assert list((node / "snapshots").iterdir()) == []
    assert clean(node)[RUN]["what"] == "absent"


def test_outputs_stay_until_they_are_given_up_and_so_does_their_code(node: Path) -> None:
    place = copy(node, outputs=True)
    found = clean(node)
    assert (found[RUN]["what"], found["done"]["snapshots"]) == ("outputs", 0)
    assert (place / "work/model.pt").exists()
    assert clean(node, take=True)[RUN]["what"] == "removed"
    assert not place.exists()


def test_what_cannot_be_compared_counts_as_outputs(node: Path) -> None:
    copy(node, digest="gone")
    assert clean(node)[RUN]["what"] == "outputs"


def test_a_run_with_processes_stays_whatever_is_asked(node: Path) -> None:
    place = copy(node)
    environ = {**os.environ, "CLUSTERCTL_RUN": f"{RUN}/0"}
    alive = subprocess.Popen([sys.executable, "-c", "input()"], env=environ, stdin=subprocess.PIPE)
    try:
        assert clean(node, take=True)[RUN]["what"] == "running"
        assert place.is_dir()
    finally:
        alive.communicate(b"\n")
    assert clean(node, take=True)[RUN]["what"] == "removed"


def test_other_nodes_parts_on_a_shared_home_stay(node: Path) -> None:
    copy(node, rank=0)
    other = copy(node, rank=1, outputs=True)
    assert clean(node, rank=0)[RUN]["what"] == "removed"
    assert [path.name for path in (node / RUN).iterdir()] == ["1"]
    assert (node / "snapshots/code").is_dir(), "the other part came from it"
    assert clean(node, rank=1, take=True)[RUN]["what"] == "removed"
    assert not other.parent.exists()


def test_code_used_within_the_hour_or_by_another_run_stays(node: Path) -> None:
    copy(node)
    snapshot(node, "young", age=600.0)
    snapshot(node, "used")
    copy(node, "20260101-120000-bbbb", digest="used")
    (node / "snapshots/rest.x.7.tar.gz").write_text("half")
    os.utime(node / "snapshots/rest.x.7.tar.gz", (1, 1))
    clean(node)
    assert sorted(path.name for path in (node / "snapshots").iterdir()) == ["used", "young"]


@pytest.mark.parametrize("name", ["..", ".", "snapshots", "../../precious", "/", "link"])
def test_no_name_leads_outside(node: Path, name: str) -> None:
    precious = node.parents[1] / "precious/0"
    precious.mkdir(parents=True)
    (node / "link").symlink_to(precious.parent)
    assert clean(node, name)[name]["what"] == "absent"
    assert precious.is_dir()
