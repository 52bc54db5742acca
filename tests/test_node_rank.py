"""What a rank finds when it starts, and what its waiter says of its end."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusterctl.messages import events
from clusterctl.node.run import rank
from clusterctl.node.run.directory import NodeDirectory
from clusterctl.node.run.rank import rank_environment
from tests.node_run import PYTHON, Make, node_runs


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with node_runs(tmp_path) as make:
        yield make


def test_signals_are_as_a_shell_leaves_them(make: Make) -> None:
    run = make(["grep", "-E", "^Sig(Ign|Blk)", "/proc/self/status"]).start()
    run.wait_end()
    found = dict(line.split() for line in run.log().splitlines())
    assert set(found) == {"SigIgn:", "SigBlk:"}
    # 32 and 33 belong to the C library: where a container's init left one ignored, nobody can set it back.
    ours = sum(1 << (number - 1) for number in signal.valid_signals())
    assert {int(mask, 16) & ours for mask in found.values()} == {0}


@pytest.mark.parametrize(
    ("script", "code", "number"),
    [
        ("exit 9", 9, None),
        ("exit 137", 137, None),
        ("kill -PIPE $$; exit 0", 141, int(signal.SIGPIPE)),
        ("kill -9 $$", 137, 9),
    ],
)
def test_code_and_signal_are_told_apart(make: Make, script: str, code: int, number: int | None) -> None:
    run = make(["sh", "-c", script]).start()
    run.wait_end()
    (end,) = run.told(events.RankExited)
    assert (end.code, end.signal, end.told) == (code, number, False)
    assert end.started <= end.ended


def test_what_cannot_be_started_is_said_in_the_log(make: Make) -> None:
    run = make(["/no/such/program"]).start()
    run.wait_end()
    assert run.log().startswith("clusterctl: cannot start /no/such/program: ")
    assert run.told(events.RankExited)[0].code == 127


def test_an_exception_is_told_with_its_time_and_trace(make: Make) -> None:
    run = make([PYTHON, "-c", "raise KeyError('lost')"]).start()
    run.wait_end()
    (end,) = run.told(events.RankExited)
    assert end.error is not None
    assert (end.error.type, end.error.message) == ("KeyError", "'lost'")
    assert "KeyError: 'lost'" in end.error.traceback
    assert end.started <= end.error.time <= end.ended


INTERRUPTED = """
class Bad(Exception):
    asked = 0
    def __str__(self):
        Bad.asked += 1
        if Bad.asked == 2:  # the first is that of the traceback, which bears with it
            raise RuntimeError("DataLoader worker (pid 9) is killed by signal: Killed.")
        return "bad"
raise Bad
"""


def test_an_exception_is_told_though_a_handler_of_the_script_s_interrupts_that(make: Make) -> None:
    run = make([PYTHON, "-c", INTERRUPTED]).start()
    run.wait_end()
    (end,) = run.told(events.RankExited)
    assert end.error is not None
    assert end.error.message == "bad"
    assert end.error.traceback.startswith(
        "Meanwhile: RuntimeError: DataLoader worker (pid 9) is killed by signal: Killed.\n"
    )


def test_an_error_file_of_the_scripts_own_making_is_not_believed(make: Make) -> None:
    # The script was not started by a python that reads our sitecustomize, so the variable is still there.
    run = make(["sh", "-c", 'echo \'{"type": 3}\' > "$CLUSTERCTL_ERROR_FILE"; exit 5']).start()
    run.wait_end()
    (end,) = run.told(events.RankExited)
    assert (end.code, end.error) == (5, None)


def test_a_waiter_without_an_agent_ends_what_it_has_started(make: Make) -> None:
    run = make(
        ["sleep", "600"],
        # Started late, by an engine that outlived the agent.
        engine=["/bin/sh", "-c", 'kill -9 $PPID; RANK=0 exec "$1" -u "$0" r', "{run_dir}/code/rank.py"],
    )
    run.job["engine"].append(run.job["python"])
    run.start()
    run.wait_gone()
    assert not run.told(events.RankExited)


RELEASED_AT_ONCE = """
import os, signal, sys
from clusterctl.node.run.directory import NodeDirectory
from clusterctl.node.run.rank import Waiter
from clusterctl.node.shared.processes import identity

class Node(NodeDirectory):
    # its agent sees the report, and releases the waiter, before that does anything else
    def overwrite(self, name, value):
        if name.startswith("exit-"):
            os.kill(os.getpid(), signal.SIGTERM)

job = dict(run="r", node_rank=0, ranks=[0], devices=None, pass_local_rank=False, arguments=[], cwd="/",
           command=["sh", "-c", "kill -TERM $PPID; exit 9"])
os.environ["RANK"] = "0"
Waiter(Node(sys.argv[1]), job, identity(int(sys.argv[2]))).main()
"""


def test_a_release_right_after_the_report_is_not_taken_for_what_came_before(tmp_path: Path) -> None:
    (tmp_path / "0/logs").mkdir(parents=True)
    with subprocess.Popen(["sleep", "600"]) as agent:
        argv = [sys.executable, "-c", RELEASED_AT_ONCE, str(tmp_path / "0"), str(agent.pid)]
        code = subprocess.run(argv, check=False).returncode
        agent.kill()
    assert code == 9  # not released, it ends its agent after a while, with 1


def test_local_rank_comes_from_the_plan_and_our_site_comes_first(tmp_path: Path) -> None:
    job = {"ranks": [3, 4], "node_rank": 1, "devices": None}
    environ = {"RANK": "4", "LOCAL_RANK": "0", "PYTHONPATH": "/mine"}
    rank, local_rank, env = rank_environment(job, environ, NodeDirectory("/run"))
    assert (rank, local_rank) == (4, 1)
    assert {key: env[key] for key in ("LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "PYTHONPATH")} == {
        "LOCAL_RANK": "1",
        "LOCAL_WORLD_SIZE": "2",
        "GROUP_RANK": "1",
        "PYTHONPATH": "/run/code/site:/mine",
    }


def test_the_devices_are_those_of_the_plan_whatever_the_engine_makes_of_them() -> None:
    environ = {"RANK": "0", "CUDA_VISIBLE_DEVICES": "0,1"}
    job = {"ranks": [0], "node_rank": 0}
    for devices in (None, "", "3,2"):
        _, _, env = rank_environment({**job, "devices": devices}, environ, NodeDirectory("/run"))
        assert env.get("CUDA_VISIBLE_DEVICES") == devices


def test_a_waiter_sees_that_its_agent_lets_the_lease_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(rank, "boottime", lambda: now)
    job = {"ranks": [0], "node_rank": 0, "devices": None}
    job |= {"command": [], "arguments": [], "pass_local_rank": False}
    monkeypatch.setenv("RANK", "0")
    directory = NodeDirectory(str(tmp_path))
    directory.write("lease", {"until": now + 100})
    waiter = rank.Waiter(directory, job, {})
    found = []
    for _ in range(30):
        now += 10
        found.append(waiter.agent_stands_still())
    assert found.index(True) == 10 + rank.LEASE_LOOKS - 1, "a while after the lease, not at once"
    directory.write("lease", {"until": now + 100})
    now += 10
    assert not waiter.agent_stands_still()
