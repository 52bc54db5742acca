"""A child that carries a connection ends with all that it has started, however stubborn that is."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path

import psutil
import pytest

from clusterctl.transport.child import Child, end_all

STUBBORN = "trap '' TERM HUP INT; echo up; while :; do sleep 1000; done"


def started(script: str) -> tuple[Child, subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        ["/bin/sh", "-c", script], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True
    )
    return Child(process), process


def first_line(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    return process.stdout.readline()


def test_a_child_that_ignores_every_signal_is_killed() -> None:
    child, process = started(STUBBORN)
    first_line(process)
    end_all([child])
    assert child.code == -9
    assert not psutil.pid_exists(child.pid)


def test_many_stubborn_children_end_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    children = [started(STUBBORN) for _ in range(5)]
    for _, process in children:
        first_line(process)

    def join(self: Child, timeout: float) -> bool:
        waited.append(timeout)
        return self._gone.wait(60)

    monkeypatch.setattr(Child, "join", join)
    end_all(child for child, _ in children)
    assert [child.code for child, _ in children] == [-9] * 5
    assert waited == sorted(waited, reverse=True), "one deadline for all"


def test_what_the_leader_leaves_behind_ends_with_it() -> None:
    child, process = started(f"({STUBBORN}) & wait")
    first_line(process)
    below = psutil.Process(child.pid).children(recursive=True)
    assert below
    child.end()
    assert child.join(60)
    gone, left = psutil.wait_procs(below, 60)
    assert not [each for each in left if each.status() != psutil.STATUS_ZOMBIE], gone


def test_the_status_is_told_once_it_is_known() -> None:
    told = threading.Event()
    process = subprocess.Popen(
        ["/bin/sh", "-c", "read x; exit 7"], stdin=subprocess.PIPE, start_new_session=True
    )
    child = Child(process, told.set)
    assert child.code is None
    assert process.stdin is not None
    process.stdin.close()
    assert told.wait(60)
    assert child.code == 7


def test_ending_what_has_ended_harms_nobody(tmp_path: Path) -> None:
    child, _ = started("exit 0")
    assert child.join(60)
    end_all([child, child])
    assert child.code == 0
