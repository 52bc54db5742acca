"""What `runs`, `status` and `pull` show, from values alone, at any width."""

from __future__ import annotations

import io
from datetime import datetime
from typing import Any

import msgspec
import pytest
from rich.console import Console, RenderableType

from clusterctl.advise.hang_verdict import HangSeen
from clusterctl.report import pull as pull_page
from clusterctl.report import runs as page
from clusterctl.report.pull import Arrival
from clusterctl.report.run_view import HostView, RunView, hosts_of, view
from clusterctl.store.outcome import Cause, Outcome, Standing
from tests.hangs.fixtures import verdict
from tests.test_run_machine import plan as small_plan

RUN = "20260101-120000-aaaa"
NOW = 10_000.0


def shown(what: RenderableType, width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width, no_color=True, highlight=False)
    console.print(what)
    stream = console.file
    assert isinstance(stream, io.StringIO)
    return [line.rstrip() for line in stream.getvalue().splitlines()]


def one_run(status: Standing = "succeeded", **changes: Any) -> RunView:
    run = RunView(
        run=RUN, started=NOW - 300, hosts=2, ranks=4, script="train.py", status=status, seconds=61.0
    )
    return msgspec.structs.replace(run, **changes)


def failed(**changes: Any) -> Outcome:
    cause = Cause(kind="exception", message="ValueError: boom", host="h1", node_rank=1, rank=1, exit_code=1)
    outcome = Outcome(run=RUN, status="failed", exit_code=1, cause=cause, left_behind={"h0": 0, "h1": 0})
    return msgspec.structs.replace(outcome, **changes)


def told(host: str, event: str, **more: Any) -> dict[str, Any]:
    return {"host": host, "event": event, "time": NOW - 5, **more}


def test_a_view_of_each_state() -> None:
    plan = msgspec.structs.replace(small_plan(2), run=RUN, command=("{python}", "-u", "a/train.py"))
    running = view(plan, None, started=1.0, supervised=True)
    assert (running.status, running.script, running.seconds) == ("running", "a/train.py", None)
    assert view(plan, None, started=1.0, supervised=False).status == "interrupted"
    ended = view(plan, failed(), started=1.0, supervised=True)
    assert (ended.status, ended.cause) == ("failed", "h1 rank 1: ValueError: boom")


def test_who_stopped_a_run_is_not_news() -> None:
    stopped = failed(status="stopped", cause=Cause(kind="operator", message="stopped by the operator"))
    assert view(small_plan(2), stopped, started=1.0, supervised=False).cause == ""


def test_the_list_fits_80_columns_and_says_what_ran_and_why_it_failed() -> None:
    cause = "gpu-node-17.cluster.example.org rank 11: RuntimeError: CUDA error: an illegal\n memory access"
    runs = [
        one_run("interrupted", seconds=None, arguments=("--lr", "0.1", "two words")),
        one_run("failed", cause=cause, script="x/" + "long" * 40),
    ]
    console = Console(file=io.StringIO(), width=80, no_color=True, highlight=False)
    console.print(page.table(runs, width=80), soft_wrap=False)
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert max(len(line) for line in lines) <= 80
    assert [line for line in lines if line != line.rstrip()] == []
    local = datetime.fromtimestamp(NOW - 300).strftime("%Y-%m-%d %H:%M")
    assert lines[0].split() == ["run", "started", "ranks", "status", "took"]
    assert lines[1].split() == [RUN, *local.split(), "4", "on", "2", "interrupted"]
    assert lines[2] == "  train.py --lr 0.1 'two words'"
    assert lines[3].endswith("failed       61 s")
    assert lines[4] == "  " + ("long" * 40)[:77] + "…"
    assert lines[5].startswith("  gpu-node-17.cluster.example.org rank 11: RuntimeError: CUDA")
    assert len(lines) == 6


def test_a_cause_that_has_no_room_beside_its_run_stands_below_it() -> None:
    cause = "node2 rank 1: torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.50 GiB."
    run = one_run("failed", cause=cause, arguments=("--name", "x" * 40))
    lines = shown(page.table([run], width=120), 120)
    assert any(line.strip() == cause for line in lines)


def test_where_there_is_room_all_stands_beside_its_run() -> None:
    run = one_run("failed", cause="h1: lost", arguments=("--name", "x" * 40))
    lines = shown(page.table([run], width=140), 140)
    assert len(lines) == 2
    assert "failed  61 s  train.py --name " + "x" * 19 + "…" in lines[1]
    assert lines[1].endswith("…  h1: lost")


EVENTS = [
    told("h0", "started", cwd="/home/a/work"),
    told("h1", "started", cwd="/home/a/work"),
    told("h0", "rank-start", rank=0),
    told("h1", "rank-start", rank=1),
]


@pytest.mark.parametrize(
    ("events", "state", "left"),
    [
        ([], "starting", None),
        (EVENTS, "1 running", None),
        ([*EVENTS, told("h0", "rank-exit", rank=0, code=3)], "1 ended with 3", None),
        (
            [*EVENTS, told("h0", "rank-exit", rank=0, code=137), told("h0", "end", left=2)],
            "1 ended with 137",
            2,
        ),
        ([*EVENTS, told("h0", "end", left=0)], "1 ended untold", 0),
        ([told("h0", "end", left=0)], "never started", 0),
        ([told("h0", "refused", reason="slot 0 is busy")], "refused: slot 0 is busy", None),
    ],
)  # fmt: skip
def test_the_state_of_a_host(events: list[dict[str, Any]], state: str, left: int | None) -> None:
    host = hosts_of(small_plan(2), events)[0]
    assert (host.host, host.state, host.left) == ("h0", state, left)


def test_the_outcome_knows_better_what_is_left() -> None:
    events = [*EVENTS, told("h0", "end", left=0)]
    hosts = hosts_of(small_plan(2), events, failed(left_behind={"h0": 0, "h1": None}))
    assert [host.left for host in hosts] == [0, None]
    assert hosts[1].state == "1 running when last heard"


def test_a_stop_too_late_repeats_what_was_not_proved() -> None:
    outcome = failed(left_behind={"h0": 0, "h1": None, "h2": 3})
    lines = page.over_already(one_run("failed"), outcome, now=NOW).splitlines()
    assert lines[0] == f"run {RUN} is over already: failed, 4 min ago"
    assert [line.split()[0] for line in lines[1:]] == ["h1", "h2"]
    clean = failed(left_behind={"h0": 0})
    assert len(page.over_already(one_run("failed"), clean, now=NOW).splitlines()) == 1


def test_hosts_with_equal_directories_are_folded() -> None:
    hosts = hosts_of(small_plan(2), EVENTS, printed={"h0": NOW - 5})
    lines = shown(page.status(one_run("running", seconds=None), hosts, None, now=NOW))
    assert lines[0] == f"run {RUN}  running"
    assert lines[1] == "train.py, 4 ranks on 2 hosts, started 5 min ago"
    assert "files h[0-1]:/home/a/work" in lines
    assert ["h0", "0", "1", "running", "5", "s", "ago"] in [line.split() for line in lines]


def test_a_dead_controller_is_told_and_what_to_do() -> None:
    run = one_run("interrupted", seconds=None, alone_since=NOW - 50, alone_for=3600.0)

    def text(run: RunView) -> str:
        return " ".join(shown(page.status(run, hosts_of(small_plan(2), EVENTS), None, now=NOW)))

    assert "(50 s ago), its controller is dead; hosts end their ranks in 59 min" in text(run)
    assert "hosts have ended their ranks" in text(msgspec.structs.replace(run, alone_for=49.0))
    assert "its controller stands still" in text(msgspec.structs.replace(run, status="running"))
    first, second = shown(page.next_steps(run, None))
    assert f"clusterctl attach {RUN}" in first and "supervise it again" in first
    assert f"clusterctl stop {RUN}" in second


def test_a_run_that_seems_to_hang_is_told_with_what_to_type() -> None:
    run = one_run("running", seconds=None)
    looked = HangSeen(verdict("asleep"), NOW - 250)
    lines = shown(page.status(run, hosts_of(small_plan(2), EVENTS), None, now=NOW, looked=looked))
    assert "hang  4 min ago: rank 2 on node2 never entered all_reduce 4 (train.py:25), in" in lines
    assert f"      clusterctl why {RUN}      what its ranks did then" in shown(
        page.next_steps(run, None, looked=looked)
    )


@pytest.mark.parametrize(
    ("run", "outcome", "commands"),
    [
        (one_run("running"), None, [f"attach {RUN}", f"logs -f {RUN}", f"stop {RUN}"]),
        (one_run("failed"), failed(), [f"why {RUN}", f"logs {RUN} --rank 1 --tail 50", f"pull {RUN}"]),
        (one_run("succeeded"), failed(status="succeeded", cause=None), [f"logs {RUN}", f"pull {RUN}"]),
        (
            one_run("lost"),
            failed(status="lost", cause=Cause(kind="lost", message="gone", host="h1")),
            ["doctor -i h1", f"pull {RUN}"],
        ),
        (one_run("error"), failed(status="error", cause=None), ["doctor"]),
    ],
)
def test_every_state_ends_with_what_to_type(
    run: RunView, outcome: Outcome | None, commands: list[str]
) -> None:
    lines = shown(page.next_steps(run, outcome, pull="bring its outputs here"))
    assert max(len(line) for line in lines) <= 80
    assert [line[6:].split("  ")[0] for line in lines] == [f"clusterctl {command}" for command in commands]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3, "0 s"), (0.4, "0 s"), (119, "119 s"), (121, "2 min"), (7201, "2 h"), (200_000, "2 days")],
)
def test_spans(seconds: float, text: str) -> None:
    assert page.span(seconds) == text


def test_what_came_back() -> None:
    many = {f"out/{number:02}.pt": 2_500_000 for number in range(11)}
    lines = shown(
        pull_page.render(
            [
                Arrival(host="gpu1", files=many),
                Arrival(host="gpu2"),
                Arrival(host="gpu3", problem="the transfer broke off"),
                Arrival(host="gpu4", files={"a\x1b[31m\udcff.txt": 7}, problem="b: it shrank"),
            ]
        )
    )
    assert lines[0] == "gpu1  11 files, 27.5 MB"
    assert lines[1].split() == ["2.5", "MB", "out/00.pt"]
    assert lines[9].strip() == "3 more"
    assert lines[10:12] == ["gpu2  nothing", "gpu3  the transfer broke off"]
    assert lines[12] == "gpu4  1 file, 7 B; b: it shrank"
    assert lines[13].split() == ["7", "B", "a?[31m?.txt"]


def test_many_hosts_that_stand_alike_are_one_row_and_one_place() -> None:
    copies = f"/root/.clusterctl/node/{RUN}"
    hosts = [
        HostView(
            host=f"gpu{number}",
            ranks=(2 * number, 2 * number + 1),
            state="2 running" if number != 7 else "1 running, 1 ended with 1",
            heard=NOW - 5,
            left=None,
            outputs=f"{copies}/{number}/work",
            printed=NOW - 90 if number != 7 else None,
        )
        for number in range(64)
    ]
    lines = shown(page.status(one_run("running"), hosts, None, now=NOW))
    assert len(lines) < 12
    assert any("gpu[0-6,8-63]" in line and "126 of 0-127" in line for line in lines)
    assert any("gpu7 " in line and "14-15" in line and line.endswith("none") for line in lines)
    assert any("gpu[0-6,8-63]" in line and line.endswith("90 s ago") for line in lines)
    assert f"files gpu[0-63]:{copies}/*/work" in lines
