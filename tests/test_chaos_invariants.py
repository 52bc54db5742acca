"""The campaign of faults notices what it is there to notice."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from clusterctl.store.outcome import Attempt, Cause, Outcome
from tests.chaos import invariants, results
from tests.chaos.faults import FAULTS
from tests.chaos.hosts import Host, World
from tests.chaos.results import Result
from tests.chaos.rounds import SUCCESS, Broken, Expected, Round
from tests.faults.page import PAGE, section

RUN = "20260101-000000-abcd"
KILLED = Cause(kind="signal", message="killed by SIGKILL", host="metal1", node_rank=0, rank=0)
FAILED = Outcome(run=RUN, status="failed", exit_code=137, cause=KILLED)
WANTED = Expected((137,), ("signal",), "metal1", 0)


@pytest.fixture
def played(tmp_path: Path) -> Round:
    """A round on one host, whose rank 0 printed three lines, all of which are here."""
    host = cast(Any, SimpleNamespace(name="metal1", see=lambda _: tmp_path / "host"))
    world = World(tmp_path, 1)
    world.hosts.append(cast(Host, host))
    (tmp_path / "host").mkdir()
    (tmp_path / "host/printed-0").write_bytes(b"ready\n0 x\n1 y\n")
    logs = tmp_path / "controller/runs" / RUN / "logs/metal1"
    logs.mkdir(parents=True)
    (logs / "rank-0.log").write_bytes(b"ready\n0 x\n1 y\n")
    found = Round(world, random.Random(1), real=False, slots=1)
    found.screen = tmp_path / "screen"
    found.screen.write_text("✗ failed after 3.0 s: metal1 rank 0: killed by SIGKILL\n")
    return found


def log_of(r: Round) -> Path:
    return r.directory / "logs/metal1/rank-0.log"


def check(r: Round, outcome: Outcome = FAILED, expected: Expected = WANTED, code: int = 137) -> None:
    (r.directory / "outcome.json").write_bytes(msgspec.json.encode(outcome))
    invariants._check_outcome(r.outcome(), code, expected)
    invariants._check_screen(r, outcome, code)
    invariants._check_logs(r, outcome)


def test_what_is_as_it_should_be_passes(played: Round) -> None:
    check(played)


@pytest.mark.parametrize(
    "expected",
    [
        Expected((137,), ("exception",), "metal1", 0),
        Expected((137,), ("signal",), "metal2", 0),
        Expected((137,), ("signal",), "metal1", 1),
        Expected((137,), ("signal",), "metal1", 0, earlier=(SUCCESS,)),
        SUCCESS,
    ],
)
def test_another_cause_is_noticed(played: Round, expected: Expected) -> None:
    with pytest.raises(Broken):
        check(played, expected=expected)


@pytest.mark.parametrize(
    "outcome",
    [
        msgspec.structs.replace(FAILED, cause=None),
        msgspec.structs.replace(FAILED, exit_code=0),
        msgspec.structs.replace(FAILED, status="lost"),
    ],
)
def test_an_outcome_at_odds_with_itself_is_noticed(played: Round, outcome: Outcome) -> None:
    with pytest.raises(Broken):
        check(played, outcome, code=outcome.exit_code)


@pytest.mark.parametrize("text", ["{", "{}", '{"status": "failed"}'])
def test_an_outcome_of_no_schema_is_noticed(played: Round, text: str) -> None:
    (played.directory / "outcome.json").write_text(text)
    with pytest.raises(Broken):
        played.outcome()


def test_a_field_of_no_schema_is_noticed(played: Round) -> None:
    data = msgspec.json.decode(msgspec.json.encode(FAILED)) | {"surprise": 1}
    (played.directory / "outcome.json").write_bytes(msgspec.json.encode(data))
    with pytest.raises(Broken, match="schema"):
        played.outcome()


def test_an_attempt_of_another_cause_is_noticed(played: Round) -> None:
    first = Attempt(attempt=1, status="failed", exit_code=137, cause=KILLED)
    last = Attempt(attempt=2, status="succeeded", exit_code=0)
    outcome = Outcome(run=RUN, status="succeeded", exit_code=0, attempts=(first, last))
    played.screen.write_text("✓ succeeded after 3.0 s\n")
    check(played, outcome, Expected((0,), earlier=(WANTED,)), 0)
    with pytest.raises(Broken, match="attempt 1"):
        check(played, outcome, Expected((0,), earlier=(Expected((137,), ("signal",), "metal2"),)), 0)


@pytest.mark.parametrize("here", [b"", b"ready\n1 y\n", b"ready\n0 z\n1 y\n"])
def test_bytes_that_are_missing_are_noticed_where_nobody_says_so(played: Round, here: bytes) -> None:
    log_of(played).write_bytes(here)
    with pytest.raises(Broken, match="lacks"):
        check(played)
    check(played, msgspec.structs.replace(FAILED, incomplete_logs=("metal1",)))


def test_what_was_cut_out_must_be_said_and_the_rest_be_there(played: Round) -> None:
    lines = [b"%03d\n" % number for number in range(100)]
    played.world.hosts[0].see("").joinpath("printed-0").write_bytes(b"".join(lines))
    mark = b"\n[clusterctl: bytes 40 to 200 of this log were cut out: 0.0 MB, see --log-limit]\n"
    said = msgspec.structs.replace(FAILED, cut_logs={"metal1/rank-0.log": 160})
    log_of(played).write_bytes(b"".join([*lines[:10], mark, *lines[50:]]))
    check(played, said)
    with pytest.raises(Broken, match="was cut"):
        check(played)
    log_of(played).write_bytes(b"".join([*lines[:9], b"xxx\n", mark, *lines[50:]]))
    with pytest.raises(Broken, match="beginning"):
        check(played, said)
    log_of(played).write_bytes(b"".join([*lines[:10], mark, *lines[60:]]))
    with pytest.raises(Broken, match="behind its cut"):
        check(played, said)


@pytest.mark.parametrize(
    "screen",
    [
        "",
        "✗ lost after 3.0 s\n",
        "✗ failed after 3.0 s\n✗ failed after 3.0 s\n",
        "Traceback (most\n",
        "\x1b[2J",
    ],
)
def test_a_screen_that_says_something_else_is_noticed(played: Round, screen: str) -> None:
    played.screen.write_text(screen)
    with pytest.raises(Broken):
        check(played)


def test_a_second_cause_in_why_is_noticed(played: Round) -> None:
    (played.directory / "outcome.json").write_bytes(msgspec.json.encode(FAILED))
    found = {"run": RUN, "status": "failed", "cause": msgspec.to_builtins(KILLED)}
    invariants._check_why(played, 0, msgspec.json.encode(found).decode())
    echo = {"role": "root", "code": "x", "means": "y", "ranks": [1], "hosts": ["metal2"], "count": 1}
    for wrong in ({"cascades": [echo]}, {"cause": None}, {"status": "lost"}):
        with pytest.raises(Broken):
            invariants._check_why(played, 0, msgspec.json.encode(found | wrong).decode())


def test_the_table_counts_rounds_and_names_those_that_broke() -> None:
    found = [
        Result(seed=1, kind="link-cut", engine="stand-in", seconds=9.6),
        Result(seed=2, kind="link-cut", engine="torchrun", seconds=20.0),
        Result(seed=4, kind="agent-killed", engine="stand-in", seconds=8.0, trouble="exit code 1\nmore"),
    ]
    lines = results.table(found)
    assert "| agent-killed | 1 | 0 | 1 |  |  | 8 | 4 |" in lines
    assert "| link-cut | 2 | 2 | 1 | 1 |  | 15 | 1-2 |" in lines
    assert "| **all** | 3 | 2 | 2 | 1 |  | 10 |  |" in lines
    assert lines[-1] == "- seed 4, agent-killed: exit code 1"


def test_rounds_of_several_days_are_told_by_their_day() -> None:
    def played(day: str, commit: str, trouble: str = "") -> Result:
        return Result(
            seed=1, kind="link-cut", engine="stand-in", seconds=1, trouble=trouble, commit=commit, day=day
        )

    found = [played("2026-12-01", "c"), played("2026-11-30", "a", "broke"), played("2026-11-30", "b")]
    assert results.days(found) == [
        "- 2026-11-30: 2 rounds, 1 held (1 of a, 1 of b)",
        "- 2026-12-01: 1 rounds, 1 held (1 of c)",
    ]


def test_the_page_tells_of_no_fault_that_is_gone() -> None:
    rows = section(PAGE.read_text(encoding="utf-8"), results.NAME).splitlines()
    told = {row.split("|")[1].strip() for row in rows if row.startswith("| ")} - {"fault", "**all**"}
    assert told <= FAULTS.keys()
