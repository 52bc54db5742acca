"""A rank that prints more than its log may hold: real agent, real relay, and the log as it lies here then."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import pytest

from clusterctl.messages import orders, relay
from clusterctl.node.run import log_limit
from clusterctl.node.run.directory import NodeDirectory
from clusterctl.node.run.log_limit import (
    ALIGNED,
    LEAST_SECONDS,
    LOOK_SECONDS,
    LogLimit,
    can_cut,
    make_logs,
    remove_logs,
    resume_of,
)
from clusterctl.node.run.log_times import LogTimes
from clusterctl.node.shared.processes import kill_all
from clusterctl.node.shared.watch import MODIFIED, ONCE, Watch
from clusterctl.run.log_collector import LogCollector
from clusterctl.store.log_files import Cut, head_of
from clusterctl.store.runs import RunDirectory
from tests.node_run import NodeRun, run_of, wait_until
from tests.test_node_relay import Talk, run_dir
from tests.test_run_machine import plan

LIMIT = 4_000_000
HEAD = head_of(LIMIT)
LINES = 400_000
LINE = "%09d of a log that is longer than it may be\n"
# It waits until what it printed first has been cut, and ends when the test says so.
FLOOD = f"""
import os, time
folder = os.environ["FOLDER"]
for number in range({LINES}):
    os.write(1, b"{LINE[:-1]}\\n" % number)
    if number == {LINES // 2}:
        while not os.path.exists(folder + "/more"): time.sleep(0.01)
"""
LOG = "rank-0.log"


def printed(begin: int, end: int) -> bytes:
    """Those bytes of what the rank printed."""
    width = len(LINE % 0)
    text = "".join(LINE % number for number in range(begin // width, end // width + 1)).encode()
    return text[begin % width :][: end - begin]


@pytest.fixture
def talks(tmp_path: Path) -> Iterator[list[Talk]]:
    made: list[Talk] = []
    yield made
    for each in made:
        each.close()
    kill_all(f"{run_of(tmp_path)}/0")


class Collected:
    """What a controller makes of a session."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CLUSTERCTL_HOME", str(home / "controller"))
        self.directory = RunDirectory.create(msgspec.structs.replace(plan(1), log_limit=LIMIT))
        self.said: list[str] = []
        self.logs = LogCollector(self.directory, self.said.append, limit=LIMIT)

    def take(self, talk: Talk) -> None:
        for each in talk.heard:
            if isinstance(each, relay.LogPiece):
                self.logs.take("h0", each, 0.0)
            elif isinstance(each, relay.LogCut):
                self.logs.cut("h0", each, 0.0)
            elif isinstance(each, relay.Complete):
                self.logs.complete("h0", each.logs)
        talk.heard.clear()

    @property
    def file(self) -> Path:
        return self.directory.host_logs("h0") / LOG


def start(talks: list[Talk], home: Path) -> Talk:
    job = NodeRun(home, FLOOD, log_head=HEAD, log_limit=LIMIT).job
    talks.append(Talk(home))
    talks[-1].say(orders.StartAgent(job=msgspec.convert(job, orders.Job)))
    talks[-1].until(relay.Started)
    return talks[-1]


def on_disk(home: Path) -> int:
    return (run_dir(home) / "logs" / LOG).stat().st_blocks * 512


@pytest.mark.parametrize("late", [False, True], ids=["soon", "late"])
def test_the_beginning_and_the_newest_stay_and_the_rest_is_said(
    talks: list[Talk], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    """``late``: what is printed comes here only when its middle is gone already."""
    here = Collected(tmp_path, monkeypatch)
    talk = start(talks, tmp_path)
    total = LINES * len(LINE % 0)
    if late:
        talk.acknowledges = False
    else:
        talk.hear_until(
            lambda: isinstance(talk.heard[-1], relay.LogPiece) and talk.heard[-1].offset > total // 3
        )
    log = run_dir(tmp_path) / "logs" / LOG
    wait_until(log.exists)
    wait_until(lambda: log.stat().st_size > total // 2 and on_disk(tmp_path) <= LIMIT + ALIGNED)
    (tmp_path / "more").touch()
    if late:
        wait_until(lambda: log.stat().st_size == total and on_disk(tmp_path) <= LIMIT + ALIGNED)
        talk.acknowledges = True
        talk.acknowledge()
    complete = talk.until(relay.Complete)
    here.take(talk)
    mark = complete.logs[LOG]
    assert mark.size == total
    assert (mark.head, mark.resume) == (HEAD, resume_of(total, HEAD, LIMIT))
    assert here.logs.incomplete(("h0",), lambda: None) == ()
    cut = Cut(HEAD, mark.resume)
    assert here.file.read_bytes() == printed(0, HEAD) + cut.line + printed(mark.resume, total)
    assert here.logs.cut_out() == {f"h0/{LOG}": mark.resume - HEAD}
    assert here.said == [f"h0: {LOG} is longer than --log-limit: its middle is cut out"]
    assert LIMIT // 2 < here.file.stat().st_size < LIMIT + 200
    assert here.directory.log_cut("h0", LOG, HEAD) == cut, "who comes later reads it from the file"


def test_a_controller_that_comes_later_goes_on_where_the_first_was(
    talks: list[Talk], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Collected(tmp_path, monkeypatch)
    first = start(talks, tmp_path)
    first.hear_until(lambda: any(isinstance(each, relay.LogCut) for each in first.heard))
    first.hear_until(lambda: isinstance(first.heard[-1], relay.LogPiece))
    here.take(first)
    first.close()
    here.logs = LogCollector(here.directory, here.said.append, limit=LIMIT)
    here.logs.resume(("h0",))
    (tmp_path / "more").touch()
    talks.append(Talk(tmp_path, here.logs.offsets("h0")))
    talks[-1].say(orders.Attach())
    talks[-1].until(relay.Complete)
    here.take(talks[-1])
    assert here.logs.incomplete(("h0",), lambda: None) == ()
    assert here.file.read_bytes().endswith(LINE.encode() % (LINES - 1))


def test_a_log_within_its_limit_is_whole(
    talks: list[Talk], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Collected(tmp_path, monkeypatch)
    job = NodeRun(tmp_path, f"print('x' * {LIMIT - 1})", log_head=HEAD, log_limit=LIMIT).job
    talks.append(Talk(tmp_path))
    talks[-1].say(orders.StartAgent(job=msgspec.convert(job, orders.Job)))
    assert talks[-1].until(relay.Complete).logs[LOG].resume == 0
    here.take(talks[-1])
    assert here.logs.incomplete(("h0",), lambda: None) == ()
    assert here.file.read_bytes() == b"x" * (LIMIT - 1) + b"\n"


# Parts


def test_the_faster_a_log_grows_the_sooner_it_is_looked_at(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    log, now = tmp_path / "logs" / LOG, [0.0]
    times = LogTimes(str(tmp_path / "times"))
    directory = NodeDirectory(str(tmp_path))
    looks = LogLimit(directory, HEAD, LIMIT, times, lambda: None, clock=lambda: now[0])

    def grown(size: int, seconds: float) -> float:
        with log.open("ab") as stream:
            stream.truncate(log.stat().st_size + size)
        now[0] += seconds
        looks.keep()
        return looks.pause

    assert grown(1000, 0.1) == LOOK_SECONDS
    assert grown(LIMIT // 4, 0.1) == pytest.approx(0.05)
    assert grown(LIMIT // 8, 0.05) == pytest.approx(0.05)
    assert grown(10 * LIMIT, 0.05) == LEAST_SECONDS
    assert grown(0, 0.01) == LOOK_SECONDS


def test_logs_that_do_not_grow_are_not_looked_at_until_one_does(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    log, watch = tmp_path / "logs" / LOG, Watch()
    times = LogTimes(str(tmp_path / "times"), clock=count(0, 10).__next__)
    directory = NodeDirectory(str(tmp_path))
    looks = LogLimit(directory, HEAD, LIMIT, times, lambda: watch.add(log.parent, MODIFIED | ONCE))
    for _ in range(2):
        with log.open("ab") as stream:
            stream.write(b"a line\n")
        assert not watch.wait(0)  # as long as it is looked at anyway
        looks.keep(woken=True)
        looks.keep()
        assert looks.pause == LOOK_SECONDS
        looks.keep()
        assert looks.pause == math.inf
        with log.open("ab") as stream:
            stream.write(b"another\n")
        assert watch.wait(10)


@pytest.mark.parametrize("limit", [1_000_000, 4_000_000, 10**9])
def test_what_is_kept_is_never_more_than_the_limit_nor_less_than_half(limit: int) -> None:
    head, before = head_of(limit), 0
    for size in range(0, 7 * limit, limit // 50 + 1):
        resume = resume_of(size, head, limit)
        assert resume >= before
        assert resume % ALIGNED == head % ALIGNED == 0
        before = resume
        if size <= limit:
            assert resume == 0
        else:
            assert limit // 4 <= size - resume
            assert head + size - resume <= limit
    assert before > head


def test_a_hostile_record_is_no_cut(tmp_path: Path) -> None:
    directory = NodeDirectory(str(tmp_path))
    directory.lay_out([0])
    cuts = log_limit.Cuts(directory)
    assert cuts.of(LOG) == (0, 0)
    directory.overwrite("cuts.json", log_limit.record(HEAD, {LOG: 5_000_000}))
    assert cuts.of(LOG) == (HEAD, 5_000_000)
    assert cuts.of("agent.log") == (0, 0)
    directory.overwrite("cuts.json", {"head": 1, "resume": {LOG: 9}, "sum": 7})
    with pytest.raises(OSError, match="cannot be read"):
        cuts.of(LOG)


def job_in(folder: Path) -> dict[str, Any]:
    return {"log_limit": LIMIT, "lock_dir": str(folder), "run": "r", "node_rank": 0, "notes": []}


def test_where_holes_are_impossible_logs_lie_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir()
    directory = NodeDirectory(str(tmp_path / "run"))
    monkeypatch.setattr(log_limit, "can_cut", lambda folder: "run/" not in str(folder))
    make_logs(directory, job := job_in(tmp_path))
    assert job == job_in(tmp_path)
    local = tmp_path / "clusterctl-logs-r-run"
    assert (tmp_path / "run/logs").resolve() == local
    assert local.stat().st_mode & 0o777 == 0o700
    (tmp_path / "run/logs" / LOG).write_text("x")
    remove_logs(directory)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["run"]
    assert not list((tmp_path / "run").iterdir())


def test_where_they_are_impossible_anywhere_nothing_is_cut_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir()
    monkeypatch.setattr(log_limit, "can_cut", lambda folder: False)
    make_logs(NodeDirectory(str(tmp_path / "run")), job := job_in(tmp_path))
    assert job["log_limit"] == 0
    assert "--log-limit" in job["notes"][0]
    assert (tmp_path / "run/logs").is_dir()


def test_a_file_system_that_takes_no_holes_is_known(tmp_path: Path) -> None:
    assert can_cut(str(tmp_path))
    assert not list(tmp_path.iterdir())
