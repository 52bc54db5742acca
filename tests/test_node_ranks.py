"""Ranks on a host: what is told of them while they work, stand still and end. Shell scripts act as python."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clusterctl.node.e2e import ranks, sockets
from clusterctl.node.e2e.program import MARK
from clusterctl.node.e2e.ranks import Ranks
from clusterctl.node.shared import wire

FILES = {"e2e.program": "", "e2e.allreduce": ""}
Told = list[dict[str, Any]]
Begin = Callable[[str], Told]


@pytest.fixture
def begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Begin]:
    """Starts a rank of which ``script`` is the python; what is told of it comes into the list."""
    told: Told = []
    monkeypatch.setattr(wire, "emit", lambda message: told.append(message["ranks"][0]))
    monkeypatch.setattr(ranks, "LOOK", 0.05)
    monkeypatch.setattr(ranks, "IDLE_SHARE", 1.0)
    here = Ranks(FILES, dict(os.environ))

    def start(script: str) -> Told:
        python = tmp_path / "python"
        python.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\n{script}\n")
        python.chmod(0o755)
        rank = {"rank": 0, "timeout": 60, "env": {}, "removed": []}
        here.join({"group": 0, "python": str(python), "reuse": False, "ranks": [rank]})
        return told

    yield start
    here.leave(0)


def tells(message: str) -> str:
    return f"echo '{MARK}{message}'\n"


def until(told: Told, **wanted: object) -> dict[str, Any]:
    limit = time.monotonic() + 120
    while time.monotonic() < limit:
        for news in list(told):
            if all(news[name] == value for name, value in wanted.items()):
                return news
        time.sleep(0.02)
    raise AssertionError(f"never told: {wanted}; only {told}")


def test_stages_are_told_as_they_come_and_a_rank_that_waits(begin: Begin) -> None:
    told = begin(tells('{"stage": "begun"}') + tells('{"stage": "store", "port": 29500}') + "exec sleep 1000")
    until(told, stage="begun")
    news = until(told, stage="store", state="waits")
    assert (news["port"], news["done"], news["unanswered"]) == (29500, False, [])


def test_a_rank_that_was_stopped_is_told_from_one_that_waits(begin: Begin, tmp_path: Path) -> None:
    told = begin(tells('{"stage": "begun"}') + "exec sleep 1000")
    until(told, stage="begun")
    pid = int((tmp_path / "pid").read_text())
    os.kill(pid, signal.SIGSTOP)
    until(told, state="stopped")
    os.kill(pid, signal.SIGCONT)
    until(told, state="waits")


def test_a_rank_that_ends_before_its_time_says_how(begin: Begin) -> None:
    told = begin(tells('{"stage": "store"}') + "kill -9 $$")
    assert until(told, ended="killed by signal 9")["stage"] == "store"


def test_its_last_words_are_told(begin: Begin) -> None:
    told = begin("echo 'Illegal instruction' >&2; exit 132")
    until(told, ended="ended: Illegal instruction")


def test_an_error_is_told_with_the_stage_that_was_reached(begin: Begin) -> None:
    told = begin(tells('{"stage": "store", "error": "RuntimeError: x"}') + "exec sleep 1000")
    until(told, stage="store", error="RuntimeError: x")


def test_nothing_is_left_when_they_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "emit", lambda message: None)
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\ntrap '' TERM HUP\necho $$ > {tmp_path}/pid\nread x\nexec sleep 1000\n")
    python.chmod(0o755)
    here = Ranks(FILES, dict(os.environ))
    here.join(
        {
            "group": 0,
            "python": str(python),
            "reuse": False,
            "ranks": [{"rank": 0, "timeout": 60, "env": {}, "removed": []}],
        }
    )
    limit = time.monotonic() + 120
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert time.monotonic() < limit
        time.sleep(0.02)
    here.leave(0)
    assert not Path(f"/proc/{int((tmp_path / 'pid').read_text())}").exists()


ROWS = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100000A:9C40 0200000A:7530 02 00000001:00000000 01:00000190 00000003     0        0 7 1 0
   1: 0100000A:9C41 0300000A:7530 02 00000001:00000000 01:00000190 00000002     0        0 8 1 0
   2: 0100000A:9C42 0400000A:7530 01 00000100:00000000 01:00000190 00000005     0        0 9 1 0
   3: 0100000A:9C43 0500000A:7530 01 00000100:00000000 04:00000190 00000005     0        0 10 1 0
   4: 0100000A:9C44 0600000A:7530 02 00000001:00000000 01:00000190 00000006     0        0 11 1 0
"""


def test_other_ranks_of_the_host_of_rank_0_wait_for_its_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[list[dict[str, Any]]] = []
    monkeypatch.setattr(wire, "emit", lambda message: told.append(message["ranks"]))
    python = tmp_path / "python"
    script = f"""read size; read order; case "$order" in
    *'"rank": 0,'*) echo '{MARK}{{"stage": "store", "port": 41234}}';;
    *41234*) echo '{MARK}{{"stage": "group"}}';;
    *) echo '{MARK}{{"stage": "group", "error": "no port"}}';;
    esac; exec sleep 1000"""
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    here = Ranks(FILES, dict(os.environ))
    one: dict[str, Any] = {"timeout": 60, "env": {}, "removed": [], "master_port": 0}
    orders = [{"rank": 0, **one}, {"rank": 1, **one}]
    here.join({"group": 0, "python": str(python), "reuse": False, "ranks": orders})
    limit = time.monotonic() + 120
    while not told or told[-1][1]["stage"] != "group":
        assert time.monotonic() < limit
        time.sleep(0.02)
    here.leave(0)
    assert told[-1][1]["error"] == ""


def test_only_what_the_other_kernel_leaves_without_an_answer_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a window that the peer's process keeps closed, nor another process's socket."""
    inodes = {"3": 7, "4": 8, "5": 9, "6": 10}
    monkeypatch.setattr(sockets, "listing", lambda path: list(inodes))
    monkeypatch.setattr(sockets, "_link", lambda pid, descriptor: f"socket:[{inodes[descriptor]}]")
    monkeypatch.setattr(sockets, "read", lambda path: ROWS.strip() if path.endswith("/tcp") else "")
    assert sockets.unanswered(1) == [("10.0.0.2", "connect"), ("10.0.0.4", "data")]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0100007F", "127.0.0.1"),
        ("0000000000000000FFFF00000100000A", "10.0.0.1"),
        ("000000FD000000000000000001000000", "fd00::1"),
    ],
)
def test_addresses_of_the_kernel_s_tables(text: str, address: str) -> None:
    assert sockets.address(text) == address
