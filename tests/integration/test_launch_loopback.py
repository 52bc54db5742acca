"""Runs on a sandbox without namespaces: all its hosts are one machine with one /tmp and one network."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusterctl.sandbox import Sandbox
from clusterctl.sandbox.spec import numbered
from tests.integration.launching import launch, start

pytestmark = [
    pytest.mark.sandbox,
    pytest.mark.skipif(os.geteuid() == 0, reason="as root it needs openssh-server's own user and directory"),
]


@pytest.fixture
def loopback(openssh_cache: Path) -> Iterator[Sandbox]:
    with Sandbox.create("loopback", numbered(2, (1,)), simulated=True) as box:
        yield box


def test_both_hosts_of_one_machine_get_their_slot(loopback: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "tell.py").write_text("import os; print('I am', os.environ['RANK'])")
    done = launch(loopback, "tell.py", cwd=tmp_path)
    assert done.code == 0, done.text
    assert "I am 0" in done.log("node1", 0)
    assert "I am 1" in done.log("node2", 1)


def test_a_slot_that_is_taken_is_refused_there_too(loopback: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "wait.py").write_text("import time; time.sleep(600)")
    first = start(loopback, "wait.py", cwd=tmp_path)
    first.wait_for_ranks(2)
    run = first.run
    second = launch(loopback, "wait.py", cwd=tmp_path)
    assert second.code == 120
    assert f"busy with run {run.name}" in second.text
    first.signal()
    first.signal()
    assert first.finish().code == 123
