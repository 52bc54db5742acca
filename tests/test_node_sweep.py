"""What is left over of dead runs on one node, with real agents and processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from clusterctl.messages.sweep import LeftProcess, sweep_messages
from clusterctl.node import sweep
from clusterctl.node.run.directory import LEASE, NodeDirectory, boottime
from clusterctl.node.shared import open_files
from clusterctl.node.shared.gpu_holders import held
from clusterctl.node.shared.processes import is_running
from tests.node_run import NodeRun, sleeping, wait_until

SLEEPS = "import time; print('ready', flush=True); time.sleep(600)"


@pytest.fixture
def runs() -> Iterator[list[NodeRun]]:
    made: list[NodeRun] = []
    yield made
    for each in made:
        each.close()


def start(runs: list[NodeRun], folder: Path) -> NodeRun:
    """As `install` lays it out: the last parts of its directory are its tag."""
    folder.mkdir(exist_ok=True)
    run = NodeRun(folder, SLEEPS)
    run.root = folder / "node" / run.job["run"] / "0"
    run.directory = type(run.directory)(str(run.root))
    run.agent = type(run.agent)(run.directory, run.tag)
    runs.append(run.start())
    run.wait_for_log("ready")
    return run


def here(tmp_path: Path, *runs: str) -> sweep.Node:
    return sweep.Node(str(tmp_path / "node"), runs)


def orphan(run: NodeRun) -> int:
    """A process that bears the mark of a run of which nothing else is left."""
    env = dict(os.environ, CLUSTERCTL_RUN=run.tag, RANK="3")
    with subprocess.Popen(
        ["setsid", "-f", "sh", "-c", "echo $$; exec sleep 4322"], env=env, stdout=subprocess.PIPE
    ) as made:
        assert made.stdout is not None
        return int(made.stdout.readline())


def test_who_is_looked_after_is_let_alone(runs: list[NodeRun], tmp_path: Path) -> None:
    run = start(runs, tmp_path)
    node = here(tmp_path, run.job["run"])
    assert run.tag in node.tags and node.is_looked_after(run.tag)
    assert node.left() == {}
    assert node.living()[run.job["run"]] >= 2
    assert list(node.files()) == []
    assert not node.is_over(run.tag)


def test_what_an_agent_no_longer_looks_after_goes_and_its_orders_too(
    runs: list[NodeRun], tmp_path: Path
) -> None:
    run = start(runs, tmp_path)
    name = run.job["run"]
    os.kill(run.identity["pid"], signal.SIGKILL)
    run.wait_gone()  # by its waiters
    left = orphan(run)
    run.directory.write("job.json", {})
    wait_until(lambda: here(tmp_path, name).left() == {run.tag: [left]})
    (told,) = [sweep.process_message(pid, run.tag, here(tmp_path).table[pid], {pid: 512}) for pid in (left,)]
    message: Any = sweep_messages.decode(json.dumps(told).encode())
    assert isinstance(message, LeftProcess)
    assert (message.run, message.rank, message.gpu, message.command) == (name, 3, 512, "sleep 4322")
    assert message.since is not None and abs(message.since - time.time()) < 600
    assert [each["path"] for each in here(tmp_path, name).files()] == [str(run.root / "job.json")]
    started = here(tmp_path).table[left].started
    assert sweep.end(run.tag, here(tmp_path, name)) == 0
    assert not is_running(left, started)
    assert here(tmp_path, name).left() == {}


def test_what_works_in_a_run_s_directory_without_a_mark_is_told_and_let_alone(tmp_path: Path) -> None:
    run = "20260101-000000-abcd"
    (tmp_path / "node" / run / "0/work").mkdir(parents=True)
    with sleeping(tmp_path / "node" / run / "0/work") as hidden:
        (told,) = here(tmp_path).strays()
        assert told == {"is": "stray", "run": run, "pid": hidden.pid, "command": "sleep 4321"}
        assert list(here(tmp_path, "20260101-000000-abce").strays()) == []
        assert here(tmp_path).left() == {}


def test_an_agent_that_stands_still_beyond_its_lease_is_left_over(
    runs: list[NodeRun], tmp_path: Path
) -> None:
    run = start(runs, tmp_path)
    os.kill(run.identity["pid"], signal.SIGSTOP)
    node = here(tmp_path, run.job["run"])
    assert node.left() == {}, "its lease is not over"
    run.directory.overwrite(LEASE, {"until": boottime() - sweep.LEASE_GRACE - 1})
    node = here(tmp_path, run.job["run"])
    assert run.identity["pid"] in node.left()[run.tag]
    assert sweep.end(run.tag, node) == 0
    run.wait_gone()


def test_what_may_live_on_another_host_of_a_shared_home_is_let_alone(tmp_path: Path) -> None:
    directory: Any = cast(Any, NodeDirectory)(str(tmp_path / "node/there/1"))
    (tmp_path / "node/there/1").mkdir(parents=True)
    directory.lay_out([0])
    directory.write("job.json", {})
    directory.overwrite("agent.json", {"pid": 1, "started": 1, "boot": "another"})
    assert list(here(tmp_path, "there").files()) == []
    old = time.time() - sweep.LONGEST_LEASE - 1
    os.utime(tmp_path / "node/there/1" / LEASE, (old, old))
    assert [each["kind"] for each in here(tmp_path, "there").files()] == ["job"]


def test_folders_in_tmp_go_with_their_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "TMP", str(tmp_path))
    gone, new = "20260101-120000-abcd", "20260101-120000-0000"
    of_runs = [f"clusterctl-{gone}", f"clusterctl-logs-{gone}-3.2", f"clusterctl-caches-{gone}.x_1y"]
    others = ["clusterctl-4026-slot-0.lock", ".clusterctl-cache-0", "clusterctl-stacks-0123456789abcdef"]
    others += ["clusterctl-of-somebody", f"clusterctl-{new}"]
    for name in (*of_runs, *others):
        (tmp_path / name).mkdir()
        if new not in name:
            os.utime(tmp_path / name, (1.0, 1.0))
    (tmp_path / "clusterctl-20260101-120000-1111").symlink_to("/etc")
    (tmp_path / "clusterctl-20260101-120000-2222").write_text("")
    found = {each["path"].rpartition("/")[2]: each["run"] for each in here(tmp_path).files()}
    assert found == dict.fromkeys(of_runs, gone)


def test_sockets_for_stacks_go_with_their_run_alone(runs: list[NodeRun], tmp_path: Path) -> None:
    run = start(runs, tmp_path)
    folder = Path(run.directory.stacks)
    folder.mkdir(exist_ok=True)
    try:
        assert list(here(tmp_path, run.job["run"]).files()) == []
        os.kill(run.identity["pid"], signal.SIGKILL)
        run.wait_gone()
        folder.mkdir(exist_ok=True)
        found = [each["path"] for each in here(tmp_path, run.job["run"]).files()]
        assert str(folder) in found
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_shared_memory_goes_only_when_nobody_has_it_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "SHM", str(tmp_path))
    for name in ("torch_1_2", "torch_1_3", "sem.x", "mine", "torch_young"):
        (tmp_path / name).write_text("x")
        if name != "torch_young":
            os.utime(tmp_path / name, (1.0, 1.0))
    with (tmp_path / "torch_1_3").open():
        found = sorted(each["path"].rpartition("/")[2] for each in here(tmp_path).shared_memory())
    assert found == ["sem.x", "torch_1_2"]
    assert list(here(tmp_path, "one-run").shared_memory()) == []


def test_a_living_process_that_cannot_be_asked_keeps_all_shared_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "SHM", str(tmp_path))
    (tmp_path / "torch_1_2").write_text("x")
    os.utime(tmp_path / "torch_1_2", (1.0, 1.0))

    def refuse(pid: int, folder: str) -> set[str]:
        raise PermissionError

    monkeypatch.setattr(open_files, "opened", refuse)
    assert list(here(tmp_path).shared_memory()) == []


def test_memory_of_one_process_on_several_cards_is_one_figure() -> None:
    text = "1201, 512\n1201, 1024\n77, [N/A]\nNo running processes found\n"
    assert held(text) == {1201: 1536, 77: None}
