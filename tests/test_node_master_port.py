"""Two launches at once on one host get two master ports."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from clusterctl.node.shared.locks import host_mark
from clusterctl.node.traffic import master_port

RANGE = (32768, 60999)
# As a session does: it finds a port, tells it, and becomes another program that waits.
SESSION = """
import os, sys
sys.path.append(sys.argv[1])
from clusterctl.node.traffic import master_port
order = {"port": None, "preferred": int(sys.argv[2]), "tries": 50, "lock_dir": sys.argv[3]}
port, _ = master_port.find(order, (32768, 60999))
waits = "import sys; print(sys.argv[1], flush=True); sys.stdin.read()"
os.execv(sys.executable, [sys.executable, "-c", waits, str(port)])
"""


def session(preferred: int, lock_dir: Path) -> tuple[subprocess.Popen[str], int]:
    root = str(Path(__file__).parents[1])
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", SESSION, root, str(preferred), str(lock_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    return process, int(process.stdout.readline())


def test_a_port_is_reserved_as_long_as_the_session_lives(tmp_path: Path) -> None:
    sessions = []
    try:
        for _ in range(3):
            sessions.append(session(27300, tmp_path))
        first, second, third = (port for _, port in sessions)
        assert len({first, second, third}) == 3
        sessions[0][0].communicate("")
        sessions.append(session(27300, tmp_path))
        assert sessions[-1][1] == first
    finally:
        for process, _ in sessions:
            process.kill()
            process.communicate()


def test_what_is_no_lock_costs_its_port_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(master_port, "_reserved", {})
    order = {"port": None, "preferred": 27400, "tries": 50, "lock_dir": str(tmp_path)}
    free = next(port for port in range(27400, 27450) if not master_port.problem(port))
    os.mkfifo(tmp_path / f"clusterctl-{host_mark()}-port-{free}.lock")
    port, why = master_port.find(order, RANGE)
    assert port is not None
    assert (port > free, why) == (True, "")


def test_without_a_place_for_locks_a_free_port_is_still_offered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(master_port, "_reserved", {})
    order = {"port": None, "preferred": 27500, "tries": 50, "lock_dir": str(tmp_path / "missing")}
    port, why = master_port.find(order, RANGE)
    assert port is not None
    assert not why
