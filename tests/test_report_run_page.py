"""The page of a run: what stands on it, how large it becomes, what hostile words do on it."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from typing import Any

import msgspec
import pytest

from clusterctl.network.model import Setting
from clusterctl.report.html.happened import happened
from clusterctl.report.html.ranks import broken, slowest
from clusterctl.report.html.record import HostSoftware, RunRecord
from clusterctl.report.html.run import overlay_page, run_page
from clusterctl.store.outcome import Attempt, Cause, Outcome, Spent
from clusterctl.store.sample import GpuSample, Sample
from clusterctl.store.step import Step
from tests.test_advise_explain import PLAN, of, raised

START = 1_800_000_000.0
HOSTILE = "</script><img src=x onerror=alert(1)> \x1b[31m\u202e"


def step(number: int, **told: Any) -> Step:
    known: dict[str, Any] = {
        "loss": 4 * math.exp(-number / 500),
        "step_s": 1.0,
        "step_s_ranks": (1.0, 1.25),
        "lr": 3e-4,
    }
    known |= {"attempt": 1, "step": number, "slow_rank": 1, "slow_host": "h1"}
    known |= {"step_s_min": 1.0, "step_s_max": 1.25}
    return Step(**(known | told))


def record(**changes: Any) -> RunRecord:
    outcome = Outcome(
        run=PLAN.run,
        status="failed",
        exit_code=1,
        cause=Cause(kind="exception", message="bad batch", host="h1", rank=1, exit_code=1),
        seconds=100.0,
        spent=Spent(
            seconds=100, detection=0.5, stop=1.5, start=8, lost=0, lost_steps=0, productive=90, share=0.9
        ),
        left_behind={"h0": 0, "h1": None},
    )
    told = RunRecord(plan=PLAN, outcome=outcome, found=of(raised("ValueError: bad batch")), started=START)
    return msgspec.structs.replace(told, **changes)


class Reader(HTMLParser):
    """What would load something, or run."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.active: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = {name for name, _ in attrs}
        self.active += {tag} & {"script", "img", "link", "iframe", "object"}
        self.active += names & {"src", "href", "srcset", "xlink:href"}
        self.active += (name for name in names if name.startswith("on"))


def test_cause_curves_ranks_and_the_way_to_start_again_are_on_it() -> None:
    page = run_page(record(steps=tuple(step(number) for number in range(1, 41))))
    assert "failed after 1m 40s: h1 rank 1: bad batch" in page
    assert "0 processes, 1 host could not be asked" in page
    assert "rank 1 on h1 was the slowest in 100% of the steps" in page
    assert "90% trained" in page and "clusterctl launch -H" in page
    told = re.search(r"step 20: loss ([\d.]+)", page)
    assert told is not None and float(told[1]) == pytest.approx(step(20).loss, rel=1e-6)


def test_a_run_that_told_of_no_steps_has_a_page_without_curves() -> None:
    page = run_page(record(outcome=None))
    assert "there are no curves" in page and "NaN" not in page and "nan" not in page


def test_nothing_on_it_loads_or_runs_whatever_hosts_say() -> None:
    secret = Setting("A_TOKEN", "s3cret", "me")
    nodes = tuple(
        msgspec.structs.replace(node, settings=(Setting("X", HOSTILE, HOSTILE), secret))
        for node in PLAN.nodes
    )
    hostile = record(
        plan=msgspec.structs.replace(PLAN, nodes=nodes, arguments=(HOSTILE,)),
        steps=tuple(step(number, slow_host=HOSTILE) for number in range(1, 41)),
        samples={HOSTILE: (Sample(time=START + 5, cpu=0.5),)},
        events=({"event": "say", "time": START, "text": HOSTILE}, {"event": "end"}, {"event": 7}),
        hosts=(HostSoftware(host=HOSTILE, has={"torch": HOSTILE}), HostSoftware(host="h1", has={})),
        tail=(HOSTILE,),
    )
    for page in (run_page(hostile), overlay_page([hostile, record()])):
        assert Reader(page).active == []
        assert "\x1b" not in page and "\u202e" not in page
        assert "s3cret" not in page


def test_eight_hosts_and_ten_hours_stay_below_a_megabyte() -> None:
    gpus = tuple(GpuSample(use=0.9) for _ in range(8))
    samples = {
        f"h{host}": tuple(Sample(time=START + 5.0 * n, cpu=(n % 7) / 7, gpus=gpus) for n in range(7200))
        for host in range(8)
    }
    steps = tuple(step(number, step_s_ranks=(1.0,) * 64) for number in range(1, 36_001, 4))
    page = run_page(record(samples=samples, steps=steps))
    assert len(page.encode()) < 1_000_000


def test_attempts_are_marked_and_listed() -> None:
    outcome = record().outcome
    assert outcome is not None
    tried = tuple(Attempt(attempt=number, status="failed", exit_code=1) for number in (1, 2))
    steps = (
        *(step(number) for number in range(1, 11)),
        *(step(number, attempt=2) for number in range(8, 21)),
    )
    page = run_page(record(outcome=msgspec.structs.replace(outcome, attempts=tried), steps=steps))
    assert "<h2>Attempts</h2>" in page and ">attempt 2</text>" in page


def test_a_loss_that_is_no_number_is_told_and_shaded() -> None:
    page = run_page(record(steps=(step(1), step(2, loss=math.nan), step(3, loss=math.inf), step(4))))
    assert "step 1: loss 3.99" in page and "step 2: loss nan" in page and "step 3: loss inf" in page
    assert "the loss was NaN or infinite in 2 of 4 steps, at step 2 first" in page
    assert page.count('class="gap"') == 1 and ">NaN or inf<" in page


def test_a_loss_that_stays_no_number_is_told_from_where_on() -> None:
    lost = tuple(step(number, loss=math.nan if number > 24 else 1.0) for number in range(1, 41))
    assert broken(lost) == "the loss was NaN or infinite from step 25 to the end, step 40"
    assert broken(lost[:24]) == broken(()) == ""


def test_the_line_that_starts_it_again_has_the_options_of_its_launch() -> None:
    page = run_page(record(typed=("-H", "lab", "--env", "A=1 2", "--spares", "1")))
    assert "clusterctl launch -H lab --env &#39;A=1 2&#39; --spares 1 t.py" in page


def test_the_time_that_went_is_told_in_numbers_and_sums_up() -> None:
    page = run_page(record())
    told = ("training: 90 s", "start: 8 s", "until the failure was noticed: 500 ms", "stop: 1.5 s")
    assert all(each in page for each in told) and "</i>steps done again" not in page


def test_of_very_many_ranks_the_slowest_come_first() -> None:
    ranks = tuple(1.4 if rank == 43 else 1.0 + rank / 1000 for rank in range(64))
    many = tuple(step(n, step_s_ranks=ranks, slow_rank=43, step_s_max=1.4) for n in range(1, 41))
    page = run_page(record(steps=many))
    rows = re.findall(r"</title>(rank \d+|\d+ other ranks)", page)
    assert rows[:3] == ["rank 43", "rank 63", "rank 62"] and rows[-1] == "48 other ranks" and len(rows) == 17
    assert page.count("1.4 s, the slowest") == 1


def test_hosts_that_are_not_in_the_picture_are_counted() -> None:
    nodes = tuple(msgspec.structs.replace(PLAN.nodes[0], host=f"h{n}", node_rank=n) for n in range(130))
    many = record(
        plan=msgspec.structs.replace(PLAN, nodes=nodes), samples={"h1": (Sample(time=START + 5, cpu=0.5),)}
    )
    assert "The first 128 of 130 hosts." in run_page(many)
    assert "The first 128" not in run_page(record(samples={"h1": (Sample(time=START + 5, cpu=0.5),)}))


def test_what_several_hosts_do_together_is_one_line() -> None:
    told = [{"event": "end", "time": 5.0 + n, "host": f"h{n}", "left": int(n == 2)} for n in range(4)]
    lines, _ = happened([*told, {"event": "note", "time": 9.0, "text": "a"}])
    assert [(line.hosts, line.text[:17]) for line in lines] == [
        (("h0", "h1"), "over; 0 processes"),
        (("h2",), "over; 1 process l"),
        (("h3",), "over; 0 processes"),
        ((), "a"),
    ]


def test_nobody_is_called_slow_for_nothing() -> None:
    even = [step(number, slow_rank=number % 4, step_s_min=1.0, step_s_max=1.3) for number in range(40)]
    assert slowest(even) == ""
    close = [step(number, step_s_min=1.0, step_s_max=1.01) for number in range(40)]
    assert slowest(close) == ""
    few = [step(number, step_s_min=1.0, step_s_max=2.0) for number in range(5)]
    assert slowest(few) == ""


def test_of_very_many_events_the_first_and_the_last_are_told() -> None:
    lines, more = happened({"event": "note", "time": float(n), "text": str(n)} for n in range(1000))
    assert (lines[0].text, lines[-1].text, len(lines), more) == ("0", "999", 400, 600)
