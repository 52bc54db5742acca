"""A run in a thread of its own: waiting, stopping, reading, and what an interrupted caller leaves."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from clusterctl.errors import ClusterctlError, UsageError
from clusterctl.run.display import Display
from clusterctl.run.operator import BY_PROGRAM
from clusterctl.session.cluster import Cluster
from clusterctl.session.run import Run
from clusterctl.store.outcome import Outcome
from clusterctl.store.runs import RunDirectory
from tests.conftest import AnsweringHosts


class Supervised:
    """Stands for the supervisor: goes on until it is interrupted, or until it is told how to end."""

    unwritten = ""

    def __init__(self, directory: RunDirectory, display: Display) -> None:
        self.directory = directory
        self.display = display
        self.interrupts = 0
        self.go_on = threading.Event()
        self.end: Callable[[], Outcome] = lambda: self.outcome("succeeded", 0)

    def outcome(self, status: Any, code: int) -> Outcome:
        return Outcome(run=self.directory.run, status=status, exit_code=code)

    def run(self) -> Outcome:
        self.directory.append_event({"event": "started", "host": "node1"})
        self.display.say("started")
        self.go_on.wait()
        self.directory.append_event({"event": "end", "host": "node1"})
        return self.outcome("stopped", 123) if self.interrupts else self.end()

    def interrupt(self, number: int) -> None:
        assert number == BY_PROGRAM
        self.interrupts += 1
        self.go_on.set()


@pytest.fixture
def supervised(answering_hosts: AnsweringHosts, monkeypatch: pytest.MonkeyPatch) -> list[Supervised]:
    made: list[Supervised] = []

    def make(
        plan: object, tree: object, link: object, directory: RunDirectory, *, display: Display, **_: object
    ) -> Supervised:
        made.append(Supervised(directory, display))
        return made[-1]

    monkeypatch.setattr("clusterctl.session.attempting.Supervisor", make)
    return made


def test_a_run_goes_on_while_the_caller_does_something_else(supervised: list[Supervised]) -> None:
    run = Cluster.from_hostfile().launch("train.py")
    assert run.outcome is None and "running" in repr(run)
    with pytest.raises(TimeoutError, match=f"run {run.id} goes on"):
        run.wait(timeout=0.01)
    assert supervised[0].interrupts == 0
    supervised[0].go_on.set()
    assert run.wait() is run.wait() is run.outcome
    assert run.wait().status == "succeeded" and "succeeded" in repr(run)
    assert run.stop() is run.outcome, "what is over stays as it ended"


def test_events_come_as_they_happen_for_any_number_of_readers(supervised: list[Supervised]) -> None:
    run = Cluster.from_hostfile().launch("train.py")
    first = iter(run)
    assert next(first)["event"] == "started"
    supervised[0].go_on.set()
    assert [event["event"] for event in first] == ["end"]
    assert [event["event"] for event in run] == ["started", "end"]


def test_logs_are_those_of_a_rank(supervised: list[Supervised]) -> None:
    with Cluster.from_hostfile().launch("train.py") as run:
        assert run.logs(1) == ""
        run.log_path(1).write_bytes(b"h\xffi\n")
        assert run.logs(rank=1) == "h\ufffdi\n"
        assert run.log_path(1).parent.name == "node2"
        with pytest.raises(UsageError, match="has no rank 2") as caught:
            run.logs(2)
        assert caught.value.hint == "its ranks: 0 to 1"


@pytest.mark.parametrize(("now", "interrupts"), [(False, 1), (True, 2)])
def test_stop_gives_grace_once(supervised: list[Supervised], now: bool, interrupts: int) -> None:
    run = Cluster.from_hostfile().launch("train.py")
    assert run.stop(now=now).status == "stopped"
    assert supervised[0].interrupts == interrupts


def test_a_block_that_breaks_off_stops_its_run(supervised: list[Supervised]) -> None:
    with pytest.raises(ZeroDivisionError):
        with Cluster.from_hostfile().launch("train.py") as run:
            raise ZeroDivisionError
    assert run.outcome is not None and run.outcome.status == "stopped"


def test_an_interrupted_wait_leaves_the_run_alone(
    supervised: list[Supervised], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Cluster.from_hostfile().launch("train.py")
    with monkeypatch.context() as patch:

        def interrupted(timeout: object = None) -> bool:
            raise KeyboardInterrupt

        patch.setattr(run._over, "wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run.wait()
    assert supervised[0].interrupts == 0 and run.outcome is None
    run.stop()


def test_a_fault_of_the_supervisor_reaches_who_waits(supervised: list[Supervised]) -> None:
    run = Cluster.from_hostfile().launch("train.py")

    def fail() -> Outcome:
        raise ClusterctlError("this machine could not go on")

    supervised[0].end = fail
    supervised[0].go_on.set()
    for _ in range(2):
        with pytest.raises(ClusterctlError, match="could not go on"):
            run.wait()
    assert "fault" in repr(run)


def test_the_run_directory_is_there_before_anything_starts(supervised: list[Supervised]) -> None:
    from clusterctl.session.options import LaunchOptions

    told: list[str] = []

    class Told(Display):
        def say(self, text: str) -> None:
            told.append(text)

    run = Cluster.from_hostfile().open_run(LaunchOptions(script="train.py"))
    assert (run.path / "plan.json").is_file() and not supervised
    supervised_before = list(run.events()) if run.outcome else []
    assert supervised_before == []
    run.start(Told())
    run.stop()
    assert told == ["started"]


def test_what_asks_for_its_end_before_it_begins_is_not_forgotten(supervised: list[Supervised]) -> None:
    from clusterctl.session.options import LaunchOptions

    run = Cluster.from_hostfile().open_run(LaunchOptions(script="train.py"))
    run.interrupt()
    run.start()
    assert run.wait(60).status == "stopped"
    assert run.settle(60)


def test_a_process_that_ends_leaves_its_runs_first() -> None:
    script = """
import threading
from clusterctl.session import run as session_run
class Endless:
    def __init__(self): self.over = threading.Event()
    def leave(self, number): self.over.set()
    def supervise(self):
        self.over.wait()
        print("left", flush=True)
        run._over.set()
endless = Endless()
run = object.__new__(session_run.Run)
run._over, run._settled, run._attempts = threading.Event(), threading.Event(), endless
run._settled.set()
session_run._unfinished.add(run)
threading.Thread(target=endless.supervise, daemon=True).start()
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "left\n"


def test_runs_of_one_process_do_not_share_anything(supervised: list[Supervised]) -> None:
    cluster = Cluster.from_hostfile()
    first, second = cluster.launch("train.py"), cluster.launch("train.py")
    assert first.id != second.id and isinstance(first, Run)
    assert first.stop().status == "stopped"
    assert second.outcome is None
    second.stop()
