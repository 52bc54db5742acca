"""The end of a run on the screen: the cause first, whole commands last."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

from clusterctl.advise.explain import explain
from clusterctl.advise.sightings import Excerpt
from clusterctl.report.ending import closing
from clusterctl.store.outcome import Cause, Outcome
from tests.test_run_machine import plan as small_plan

RUN = "20260101-120000-aaaa"
PLAN = msgspec.structs.replace(small_plan(2), run=RUN)
COPIES = {f"h{rank}": f"/root/.clusterctl/node/{RUN}/{rank}/code" for rank in (0, 1)}


def outcome(**changes: Any) -> Outcome:
    cause = Cause(
        kind="exit",
        message="ended with exit code 2",
        host="h1",
        node_rank=1,
        rank=1,
        exit_code=2,
        log="logs/h1/rank-1.log",
    )
    found = Outcome(
        run=RUN, status="failed", exit_code=2, cause=cause, left_behind={"h0": 0, "h1": 0}, seconds=12.4
    )
    return msgspec.structs.replace(found, **changes)


def shown(ended: Outcome, *, plan: Any = PLAN, last_lines: Sequence[str] = (), **more: Any) -> list[str]:
    end = [
        Excerpt(text="\n".join(last_lines), host=cause.host, rank=cause.rank, ends=True)
        for cause in (ended.cause,)
        if cause is not None
    ]
    found = explain(plan, ended, excerpts=end)
    console = Console(file=io.StringIO(), width=80, no_color=True, highlight=False)
    page = closing(plan, ended, Path("/runs") / RUN, last_lines=last_lines, found=found, **more)
    console.print(page, crop=False)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_the_cause_comes_first_then_its_last_lines_then_what_to_type() -> None:
    collateral = (Cause(kind="signal", message="killed by SIGTERM", host="h0"),)
    lines = shown(outcome(collateral=collateral), last_lines=["usage: t.py", "t.py: error"], places=COPIES)
    assert lines == [
        "",
        "✗ failed after 12.4 s: h1 rank 1: ended with exit code 2; its last line: t.py: ",
        "error",
        "exit  2, the exit code of rank 1",
        "  usage: t.py",
        "  t.py: error",
        f"log   /runs/{RUN}/logs/h1/rank-1.log",
        "also  1 on h0 ended with it",
        "left  0 processes left on 2 of 2 hosts",
        f"logs  /runs/{RUN}/logs  (complete to the last byte)",
        f"files h[0-1]:/root/.clusterctl/node/{RUN}/*/code  (a copy)",
        f"next  clusterctl why {RUN}                 why it failed",
        f"      clusterctl logs {RUN} --rank 1 --tail 50  its last lines",
        f"      clusterctl pull {RUN}                bring its outputs here",
    ]


def test_who_stopped_a_run_is_said_once() -> None:
    stopped = Cause(kind="operator", message="stopped by the operator (Ctrl-C)")
    lines = shown(outcome(status="stopped", exit_code=123, cause=stopped))
    assert any(line.endswith(" by the operator (Ctrl-C)") and "stopped by" not in line for line in lines)


def test_a_run_that_ran_nowhere_misses_no_logs() -> None:
    stopped = outcome(status="stopped", exit_code=123, cause=None, incomplete_logs=("h0", "h1"))
    assert f"logs  /runs/{RUN}/logs  (not complete: h[0-1])" in shown(stopped, places=COPIES)
    nowhere = shown(stopped, places={})
    assert f"logs  /runs/{RUN}/logs" in nowhere
    assert not any("--fetch" in line for line in nowhere)


def test_what_to_type_next_fits_eighty_columns() -> None:
    lines = shown(outcome(), places={"h0": "/p", "h1": "/p"})
    assert "bring here what is not shared" in lines[-1]
    assert max(map(len, lines)) <= 80


def test_a_success_says_where_its_files_lie() -> None:
    good = outcome(status="succeeded", exit_code=0, cause=None)
    in_place = shown(good, places={"h0": "/p", "h1": "/p"})
    assert in_place[-2:] == [
        "files h[0-1]:/p  (in place)",
        f"next  clusterctl pull {RUN}  bring here what is not shared",
    ]
    assert shown(good, places=COPIES)[-1] == f"next  clusterctl pull {RUN}  bring its outputs here"
    assert len(shown(good)) == 4


def test_a_busy_slot_names_the_run_that_holds_it_and_no_files() -> None:
    cause = Cause(kind="preflight", message="slot 0 is busy with run r1 of alice", host="h0", holder="r1")
    lines = shown(outcome(status="refused", exit_code=120, cause=cause), places=COPIES)
    assert not [line for line in lines if line.startswith(("files", "next"))]
    assert "hint: clusterctl stop r1 ends that run" in "\n".join(lines)


def test_a_script_that_does_not_know_local_rank_is_helped() -> None:
    plan = msgspec.structs.replace(PLAN, pass_local_rank=True)
    for said in (
        "t.py: error: unrecognized arguments: --local_rank=0",
        "t.py: error: unrecognized arguments: --steps 3 --local-rank=1",
        "Error: No such option: --local_rank",
        "ValueError: Some specified arguments are not used by the HfArgumentParser: ['--local_rank=0']",
    ):
        assert any("--no-local-rank" in line for line in shown(outcome(), plan=plan, last_lines=[said]))
        assert not any("--no-local-rank" in line for line in shown(outcome(), last_lines=[said]))
    assert not any(
        "--no-local-rank" in line for line in shown(outcome(), plan=plan, last_lines=["local_rank"])
    )


def test_what_no_signal_ended_is_told_with_its_host() -> None:
    lines = shown(outcome(status="stopped", exit_code=123, cause=None, left_behind={"h0": 0, "h1": 1}))
    assert "left  1 process left on h1" in lines
    assert "clusterctl exec -i h1 -- ps" in " ".join(lines)


def test_a_host_without_proof_is_named_with_what_to_do() -> None:
    stopped = outcome(status="stopped", exit_code=123, cause=None, left_behind={"h0": 0, "h1": None})
    lines = shown(stopped)
    assert "left  0 processes left on 1 of 2 hosts; not confirmed on h1" in lines
    hint = " ".join(lines[lines.index(next(line for line in lines if line.startswith("hint:"))) :])
    assert "clusterctl exec -i h1 -- ps -ef" in hint
