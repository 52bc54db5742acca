"""A verdict on a hang as a person reads it."""

from __future__ import annotations

import io
from pathlib import Path

from msgspec.structs import replace
from rich.console import Console

from clusterctl.advise.explain import Explanation, explain
from clusterctl.advise.hang_verdict import HangVerdict
from clusterctl.advise.sightings import Excerpt
from clusterctl.messages.evidence import Frame
from clusterctl.report.hang import document, hang
from clusterctl.report.why import page
from clusterctl.store.outcome import Cause, Outcome
from tests.hangs.fixtures import plan, verdict


def shown(found: HangVerdict, width: int = 80) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width).print(hang(found))
    return stream.getvalue()


def test_the_first_line_says_it_and_the_rarest_stack_comes_first() -> None:
    assert shown(verdict("asleep"), 120) == (
        "hang  rank 2 on node2 never entered all_reduce 4 (train.py:25), in which 3 ranks wait; it sleeps at "
        "train.py:24 (asleep)\n"
        "why   stopped: nothing moved between the two looks, and no rank works\n"
        "hint: look for a branch, a loop or a wait that only some ranks take\n"
        "group all_reduce 4: ranks 0-1,3 in, rank 2 missing\n"
        "stack rank 2\n"
        "        train.py:24 asleep\n"
        "        train.py:200 main\n"
        "        train.py:204 <module>\n"
        "stack ranks 0-1,3\n"
        "        torch/distributed/distributed_c10d.py:3252 all_reduce\n"
        "        torch/distributed/c10d_logger.py:83 wrapper\n"
        "        train.py:25 asleep\n"
        "        train.py:200 main\n"
        "        train.py:204 <module>\n"
    )


def test_other_threads_of_the_rank_that_is_waited_for_are_shown() -> None:
    assert "stack rank 3, thread without a name\n        train.py:199 takes\n" in shown(verdict("two_locks"))


def test_of_a_long_stack_both_ends_are_shown() -> None:
    found = verdict("asleep")
    frames = tuple(Frame("torch/deep.py", number, "call") for number in range(1, 21))
    stack = replace(found.stacks[0], frames=(*frames, Frame("train.py", 9, "main")))
    lines = [line.strip() for line in shown(replace(found, stacks=(stack,))).splitlines()]
    assert lines[-10:] == [
        *(f"torch/deep.py:{number} call" for number in range(1, 6)),
        "12 more",
        *(f"torch/deep.py:{number} call" for number in range(18, 21)),
        "train.py:9 main",
    ]


def test_what_nodes_sent_steers_no_terminal() -> None:
    found = verdict("asleep")
    stack = replace(found.stacks[0], frames=(Frame("\x1b[2Jevil.py", 1, "\x1b]0;x\x07f"),), thread="\x1b[31m")
    told = shown(replace(found, sentence="\x1b[2Jrank 2", hint="\x1b[1m", stacks=(stack,)))
    assert "\x1b" not in told and "\x07" not in told
    assert "\\x1b[2Jrank 2" in told


def test_a_program_gets_all_of_it() -> None:
    found = document(verdict("asleep"))
    assert (found["kind"], found["stop"], found["waiting"]) == ("missing", True, (0, 1, 3))
    assert found["suspects"][0]["where"] == "train.py:24 (asleep)"
    assert found["groups"][0]["missing"] == (2,)


def test_why_shows_the_groups_and_stacks_of_a_run_that_hung() -> None:
    found = verdict("asleep")
    cause = Cause(kind="hang", message=found.sentence, host="node2", node_rank=1, rank=2)
    run = Explanation(
        run="r1", status="hung", known=True, means=found.sentence, hint=found.hint, cause=cause, hang=found
    )
    stream = io.StringIO()
    Console(file=stream, width=120).print(page(run, Path("/runs/r1")))
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith("✗ hung: rank 2 on node2 never entered all_reduce 4 (train.py:25)")
    assert "group all_reduce 4: ranks 0-1,3 in, rank 2 missing" in lines
    assert lines.index("stack rank 2") < lines.index("stack ranks 0-1,3")


def test_of_a_rank_that_raised_and_does_not_end_the_traceback_is_shown() -> None:
    found = replace(verdict("asleep"), kind="raised")
    trace = 'Traceback (most recent call last):\n  File "train.py", line 9\nValueError: loss is nan\n'
    cause = Cause(kind="hang", message=found.sentence, host="node2", node_rank=1, rank=2)
    raised = Cause(kind="exception", message="ValueError: loss is nan", traceback=trace, rank=2)
    outcome = Outcome(
        run="r1", status="hung", exit_code=122, cause=cause, collateral=(raised,), left_behind={}, seconds=1.0
    )
    for each, shown in ((found, tuple(trace.splitlines())), (verdict("asleep"), ())):
        assert explain(plan(2, 2), outcome, hang=each).quoted == shown


def test_what_a_thread_of_the_rank_that_hangs_has_printed_at_its_end_is_told() -> None:
    found = verdict("asleep")
    cause = Cause(kind="hang", message=found.sentence, host="node2", node_rank=1, rank=2, log="l")
    outcome = Outcome(run="r1", status="hung", exit_code=122, cause=cause, left_behind={}, seconds=1.0)
    printed = Path("tests/fixtures/why/script.thread.txt").read_text()
    log = Excerpt(text=printed, host="node2", rank=2, file="l", first=1, ends=True)
    (seen,) = explain(plan(2, 2), outcome, hang=found, excerpts=(log,)).confirmations
    assert seen.means == "its thread Thread-1 (prefetch) ended with an exception, which ends no script"
    of_another = replace(log, rank=3)
    assert not explain(plan(2, 2), outcome, hang=found, excerpts=(of_another,)).confirmations
