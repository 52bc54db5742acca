"""A stdout that cannot be written: the exit code stays the verb's, and nobody sees a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def clusterctl(home: Path, redirection: str, *words: str, **env: str) -> subprocess.CompletedProcess[bytes]:
    script = f'exec "$0" -m clusterctl "$@" {redirection}'
    return subprocess.run(
        ["bash", "-c", script, sys.executable, *words],
        capture_output=True,
        timeout=120,
        check=False,
        env={**os.environ, "CLUSTERCTL_HOME": str(home), **env},
    )


VERBS = [["--version"], ["doctor", "--help"], ["runs"], ["runs", "--json"]]


@pytest.mark.parametrize("words", VERBS, ids=" ".join)
def test_a_full_disk_behind_stdout_is_said(tmp_path: Path, words: list[str]) -> None:
    found = clusterctl(tmp_path, ">/dev/full", *words)
    assert found.returncode == 125
    assert found.stderr.splitlines()[0] == b"error: stdout cannot be written: No space left on device"


@pytest.mark.parametrize("words", VERBS, ids=" ".join)
@pytest.mark.parametrize("redirection", [">&-", ">&- 2>&-", "<&- >&- 2>&-", "| :"])
def test_a_closed_stdout_is_nothing_to_complain_about(
    tmp_path: Path, words: list[str], redirection: str
) -> None:
    found = clusterctl(tmp_path, redirection, *words)
    assert (found.returncode, found.stderr) == (0, b"")


def test_a_full_disk_behind_both_keeps_the_exit_code(tmp_path: Path) -> None:
    assert clusterctl(tmp_path, ">/dev/full 2>&1", "logs", "nothere").returncode == 64
    assert clusterctl(tmp_path, "2>/dev/full", "nosuchverb").returncode == 64


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_an_encoding_without_our_signs(tmp_path: Path, encoding: str) -> None:
    hostfile = tmp_path / "größe-✓"
    hostfile.write_text("host slots=x\n")
    found = clusterctl(tmp_path, "", "doctor", str(hostfile), PYTHONIOENCODING=encoding)
    assert found.returncode == 64
    assert found.stderr.startswith(b"error: ")
    assert b"Traceback" not in found.stderr
