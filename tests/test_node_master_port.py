"""Two launches at once on one host get two master ports."""

from __future__ import annotations

import socket
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
order = {"port": None, "preferred": int(sys.argv[2]), "tries": 50}
port, _ = master_port.find(order, (32768, 60999))
waits = "import sys; print(sys.argv[1], flush=True); sys.stdin.read()"
os.execv(sys.executable, [sys.executable, "-c", waits, str(port)])
"""


def session(preferred: int) -> tuple[subprocess.Popen[str], int]:
    root = str(Path(__file__).parents[1])
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", SESSION, root, str(preferred)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    return process, int(process.stdout.readline())


def test_a_port_is_reserved_as_long_as_the_session_lives() -> None:
    sessions = []
    try:
        for _ in range(3):
            sessions.append(session(27300))
        first, second, third = (port for _, port in sessions)
        assert len({first, second, third}) == 3
        sessions[0][0].communicate("")
        sessions.append(session(27300))
        assert sessions[-1][1] == first
    finally:
        for process, _ in sessions:
            process.kill()
            process.communicate()


def test_where_others_have_taken_every_name_a_free_port_is_still_offered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(master_port, "_reserved", {})
    taken = []
    try:
        for port in range(27500, 27505):
            taken.append(socket.socket(socket.AF_UNIX))
            taken[-1].bind(f"\0clusterctl-{host_mark()}-port-{port}")
        port, why = master_port.find({"port": None, "preferred": 27500, "tries": 5}, RANGE)
        assert (port in range(27500, 27505), why) == (True, "")
        elsewhere, _ = master_port.find({"port": None, "preferred": 27500, "tries": 50}, RANGE)
        assert elsewhere is not None and elsewhere >= 27505
    finally:
        for each in taken:
            each.close()


def test_nothing_listens_on_a_port_that_another_launch_was_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be in the way of that one's store, for a moment."""
    listened: list[int] = []

    def problem(port: int) -> str:
        listened.append(port)
        return ""

    monkeypatch.setattr(master_port, "_reserved", {})
    monkeypatch.setattr(master_port, "problem", problem)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(f"\0clusterctl-{host_mark()}-port-27700")
        order = {"port": None, "preferred": 27700, "tries": 5}
        assert master_port.find(order, RANGE) == (27701, "")
        master_port._reserved[27701].close()
    assert listened == [27701]


def test_a_reservation_leaves_no_file() -> None:
    process, port = session(27600)
    try:
        assert not list(Path("/tmp").glob(f"clusterctl-*-port-{port}.lock"))
    finally:
        process.kill()
        process.communicate()
