"""What DeepSpeed's launcher says of hosts that pdsh did not reach."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from clusterctl.engines import deepspeed
from clusterctl.run.launcher import DeepSpeedLauncher, pdsh_failures
from tests.test_run_machine import plan

LOG = """[2026-01-01 10:00:00,000] [INFO] [runner.py:630:main] cmd = pdsh -S -f 1024 -w node1,node2 ...
node2: Permission denied (publickey).
node1: [2026-01-01 10:00:01,000] [INFO] [launch.py:162:main] nnodes=2, num_local_procs=1, node_rank=0
pdsh@laptop: node2: ssh exited with exit code 255
"""


def test_the_host_and_its_last_words_are_found() -> None:
    assert pdsh_failures(LOG) == {"node2": "Permission denied (publickey)."}


def test_a_host_that_said_nothing_is_found_too() -> None:
    assert pdsh_failures("pdsh@l: n1: ssh exited with exit code 255\n") == {
        "n1": "ssh exited with exit code 255"
    }


def test_a_rank_that_prints_such_a_line_is_not_pdsh() -> None:
    assert pdsh_failures("node1: pdsh@l: node2: ssh exited with exit code 1\n") == {}


def test_a_launcher_that_no_signal_ends_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits in the kernel for the disk of its log, which hangs."""

    class Stuck:
        pid = 1 << 30

        def __init__(self, *_: Any, **__: Any) -> None:
            return

        def wait(self, timeout: float | None = None) -> int:
            assert timeout is not None, "for ever"
            raise subprocess.TimeoutExpired("deepspeed", timeout)

    killed: list[int] = []
    monkeypatch.setattr(subprocess, "Popen", Stuck)
    monkeypatch.setattr("os.killpg", lambda pid, _: killed.append(pid))
    DeepSpeedLauncher(plan(1), tmp_path / "log", None).close()
    assert killed == [Stuck.pid]


def test_its_hostfile_has_no_name_that_a_killed_controller_could_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    class Runner:
        def __init__(self, argv: list[str], *, pass_fds: tuple[int, ...], **_: Any) -> None:
            (path,) = [Path(each.partition("=")[2]) for each in argv if each.startswith("--hostfile=")]
            assert path.is_file(), "DeepSpeed takes nothing else"
            assert path.name == str(pass_fds[0])
            read.append(path.read_text())

        def wait(self, _: float) -> int:
            return 0

    monkeypatch.setattr(subprocess, "Popen", Runner)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    DeepSpeedLauncher(plan(2), tmp_path / "log", None).close()
    assert read == [deepspeed.hostfile(plan(2))]
    assert [each.name for each in tmp_path.iterdir()] == ["log"]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (-9, "deepspeed's launcher was ended from outside by signal 9"),
        (1, "deepspeed's launcher ended with exit code 1: ValueError: no"),
    ],
)
def test_its_last_line_is_quoted_where_it_says_why(
    code: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Runner:
        def __init__(self, *_: Any, **__: Any) -> None:
            (tmp_path / "log").write_text("cmd = pdsh\nValueError: no\n")

        def poll(self) -> int:
            return code

    monkeypatch.setattr(subprocess, "Popen", Runner)
    launcher = DeepSpeedLauncher(plan(1), tmp_path / "log", None)
    launcher.look()
    assert launcher.trouble == said
