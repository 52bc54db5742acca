"""What somebody reads who has just installed it, and nobody else."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from clusterctl.cli import first_steps

FIRST = "clusterctl init gpu1 gpu2"


class Beginner:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CLUSTERCTL_")}
        self.env = {**kept, "CLUSTERCTL_HOME": str(folder / "home"), "COLUMNS": "80", "TERM": "xterm"}

    def reads(self, *words: str, terminal: bool = True) -> str:
        master, slave = pty.openpty()
        command = [sys.executable, "-m", "clusterctl", *words]
        stderr = slave if terminal else subprocess.PIPE
        ended = subprocess.run(command, cwd=self.folder, env=self.env, stderr=stderr, check=False)
        os.close(slave)
        told = b""
        if terminal:
            try:
                while piece := os.read(master, 65536):
                    told += piece
            except OSError:  # how a terminal ends that nobody has open any more
                pass
        os.close(master)
        return told.decode() if terminal else ended.stderr.decode()


@pytest.fixture
def beginner(tmp_path: Path) -> Beginner:
    return Beginner(tmp_path)


def test_three_lines_behind_the_help_and_behind_no_hosts(beginner: Beginner) -> None:
    for words in ((), ("doctor",)):
        told = beginner.reads(*words)
        assert FIRST in told
        assert max(map(len, first_steps._LINES.splitlines())) <= 80
        assert len(told.partition("first ")[2].strip().splitlines()) == 3
    assert not (beginner.folder / "home").exists()


def test_nobody_else_reads_them(beginner: Beginner) -> None:
    assert FIRST not in beginner.reads("doctor", terminal=False)
    assert FIRST not in beginner.reads("doctor", "-H", "missing")
    (beginner.folder / "home/runs/20260101-120000-abcd").mkdir(parents=True)
    assert FIRST not in beginner.reads("doctor")
