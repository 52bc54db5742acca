"""Processes that a run may have left, of which nothing but their working directory tells."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusterctl.node.run.strays import strays
from tests.node_run import sleeping


@pytest.fixture
def work(tmp_path: Path) -> Path:
    found = tmp_path / "node/20260101-000000-abcd/0/work"
    found.mkdir(parents=True)
    return found


@pytest.fixture
def here(work: Path) -> Iterator[int]:
    """A process that has left its session and has no variables, at work in a run's copy."""
    with sleeping(work) as sleeps:
        yield sleeps.pid


def test_what_works_in_a_runs_copy_is_told(work: Path, here: int, tmp_path: Path) -> None:
    assert strays(str(tmp_path / "node")) == {here: str(work)}
    assert strays(str(work.parent)) == {here: str(work)}
    assert strays(str(tmp_path / "node/20260101-000000-abce")) == {}


def test_what_is_known_and_what_descends_from_it_is_not(here: int, tmp_path: Path) -> None:
    assert strays(str(tmp_path), {here}) == {}
    assert strays(str(tmp_path), {os.getpid()}) == {}


def test_what_bears_the_mark_of_a_run_is_not(work: Path, tmp_path: Path) -> None:
    with sleeping(work, CLUSTERCTL_RUN="20260101-000000-abcd/0"):
        assert strays(str(tmp_path)) == {}


def test_a_shell_in_which_somebody_looks_around_is_not(work: Path, tmp_path: Path) -> None:
    pid, terminal = os.forkpty()
    if pid == 0:
        os.chdir(work)
        os.write(1, b"there")
        os.execvp("sleep", ["sleep", "4321"])
    assert os.read(terminal, 5) == b"there"
    assert strays(str(tmp_path)) == {}
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    os.close(terminal)


def test_its_copy_may_have_been_removed(work: Path, here: int, tmp_path: Path) -> None:
    work.rmdir()
    assert list(strays(str(tmp_path / "node"))) == [here]
