"""Ranks that print as fast as they can, on real hosts: nothing is lost up to the limit, and the run obeys."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from clusterctl.sandbox import Sandbox
from clusterctl.sandbox.spec import numbered
from clusterctl.store.log_files import cut_of, head_of
from tests.conftest import MakeSandbox
from tests.integration.launching import PATIENCE, launch, leftovers, start
from tests.integration.standin import without_torch

pytestmark = pytest.mark.sandbox
WIDTH = 64
LIMIT = 8_000_000
# Each line tells where it stands. What is printed after SIGTERM is the end of each log.
FLOOD = f"""
import os, signal, sys
rank, lines = int(os.environ["RANK"]), int(sys.argv[1])
told = []
signal.signal(signal.SIGTERM, lambda *_: told.append(1))
number = 0
while number < lines and not told:
    some = range(number, number + 500)
    text = "".join("%012d of rank %03d" % (each, rank) + "." * {WIDTH - 25} + "\\n" for each in some)
    number += 500
    while text: text = text[os.write(1, text.encode()):]
"""


def text(number: int, rank: int) -> bytes:
    return b"%012d of rank %03d" % (number, rank) + b"." * (WIDTH - 25) + b"\n"


def whole(begin: int, end: int, rank: int) -> bytes:
    """What the rank printed from one byte to another."""
    first = begin // WIDTH
    data = b"".join(text(number, rank) for number in range(first, end // WIDTH + 1))
    return data[begin - first * WIDTH :][: end - begin]


def assert_kept(log: Path, rank: int, limit: int) -> None:
    """The beginning, one line in place of what is missing, and the newest, to the last byte."""
    cut = cut_of(log, head_of(limit))
    data = log.read_bytes()
    assert cut.resume, f"{log} has {len(data)} bytes and no cut"
    assert len(data) <= limit + len(cut.line)
    assert data == whole(0, cut.head, rank) + cut.line + whole(cut.resume, cut.size(len(data)), rank)


def flood_and_stop(
    box: Sandbox, folder: Path, *, hosts: int, slots: int, limit: int, options: Sequence[str] = ()
) -> None:
    """Ranks of a flood, which `clusterctl stop` ends when all have lost their middle; what is kept."""
    (folder / "flood.py").write_text(FLOOD)
    words = ["-n", str(hosts), "--log-limit", f"{limit // 10**6}MB", *options]
    found = start(box, "flood.py", str(10**9), cwd=folder, options=words)
    ranks = range(hosts * slots)
    found.wait_for_ranks(len(ranks))
    logs = {rank: found.run / f"logs/node{1 + rank // slots}/rank-{rank}.log" for rank in ranks}
    found.wait_for(
        lambda _: all(log.exists() and cut_of(log, head_of(limit)).resume for log in logs.values())
    )
    argv = [sys.executable, "-m", "clusterctl", "stop", found.run.name]
    assert subprocess.run(argv, capture_output=True, timeout=PATIENCE, check=False).returncode == 0
    found.finish()
    assert found.code == 123, found.text
    said = [event["text"] for event in found.events() if event["event"] == "say"]
    assert not [text for text in said if "lost" in text or "no word" in text or "not all" in text], said
    outcome = found.outcome
    assert outcome["left_behind"] == {f"node{1 + number}": 0 for number in range(hosts)}
    assert outcome["incomplete_logs"] == []
    assert set(outcome["cut_logs"]) == {f"node{1 + rank // slots}/rank-{rank}.log" for rank in ranks}
    for rank, log in logs.items():
        assert_kept(log, rank, limit)
    assert f"cut out of the middle of {len(ranks)} logs: --log-limit" in found.text
    assert leftovers(box, found.run.name) == []


def test_a_flood_is_kept_to_its_limit_and_can_be_stopped(sandbox: Sandbox, tmp_path: Path) -> None:
    flood_and_stop(sandbox, tmp_path, hosts=3, slots=2, limit=LIMIT, options=without_torch(sandbox))


@pytest.mark.long
def test_sixty_four_floods_are_kept_to_their_limit_and_can_be_stopped(
    make_sandbox: MakeSandbox, tmp_path: Path
) -> None:
    box = make_sandbox(numbered(2, (32,)))
    options = without_torch(box)
    flood_and_stop(box, tmp_path, hosts=2, slots=32, limit=2_000_000, options=options)


@pytest.mark.long
def test_a_flood_within_its_limit_comes_to_the_last_byte(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "flood.py").write_text(FLOOD)
    found = launch(sandbox, "flood.py", "100000", cwd=tmp_path, options=["-n", "3", "--log-limit", "7MB"])
    assert found.code == 0, found.text
    assert (found.outcome["incomplete_logs"], found.outcome["cut_logs"]) == ([], {})
    for rank in range(6):
        log = (found.run / f"logs/node{1 + rank // 2}/rank-{rank}.log").read_bytes()
        assert log == whole(0, 100_000 * WIDTH, rank)
