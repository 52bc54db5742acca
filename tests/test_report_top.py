"""`clusterctl top`: lines of recorded hosts at 80 and 120 columns, and what is never said."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from clusterctl.errors import UsageError
from clusterctl.messages.top import GpuSeen, HostSeen, Job, top_messages
from clusterctl.report.pace import Pace
from clusterctl.report.top import Overview, RunLine
from clusterctl.report.top_page import render, sparkline
from clusterctl.session.top import Looking
from clusterctl.session.top_record import News, read_news, write_news

GIB = 1 << 30
NOW = 1_800_000_000.0
HOSTILE = "\x1b[2J\u202e<script>"


def gpu(use: float | None = 0.9, held: float = 60.0, **more: Any) -> GpuSeen:
    known: dict[str, Any] = {
        "name": "NVIDIA H100 80GB HBM3",
        "total": 80 * GIB,
        "temperature": 61,
        "watts": 512,
    }
    return GpuSeen(use=use, memory=round(held * GIB), **(known | more))


def host(*gpus: GpuSeen | None, jobs: tuple[Job, ...] = (), **more: Any) -> HostSeen:
    driver: Any = "told" if gpus else "none"
    return HostSeen(time=NOW, cores=64, cpu=0.25, memory=8 * GIB, memory_total=512 * GIB, driver=driver,
                    gpus=gpus or None, jobs=jobs, **more)  # fmt: skip


def rank(card: int | None = 0, number: int = 3, **more: Any) -> Job:
    known: dict[str, Any] = {
        "user": "ada",
        "command": "/opt/venv/bin/python -u train.py --lr 3",
        "since": NOW - 7200,
    }
    known |= {"run": "20260101-120000-aaaa"}
    return Job(pid=4711, gpu=card, rank=number, **(known | more))


def looked(*news: News) -> Looking:
    found = Looking(list(dict.fromkeys(each.host for each in news)))
    for each in news:
        found.hear(each)
    return found


def shown(overview: Overview, width: int = 80, only: str = "") -> list[str]:
    console = Console(file=io.StringIO(), width=width, no_color=True, highlight=False)
    console.print(render(overview, width=width, only=only))
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    return lines


def one(seen: HostSeen | None = None, problem: str = "", at: float = NOW, name: str = "node1") -> News:
    return News(at=at, host=name, seen=seen, problem=problem)


def test_a_card_is_a_line_with_its_run_and_rank() -> None:
    overview = looked(one(host(gpu(), gpu(0.0, 0.5), jobs=(rank(),)))).overview((), NOW)
    _, first, second, last = shown(overview)
    assert first.split() == [
        "node1", "0", "90%", "60.0/80G", "61", "512", "ada", "20260101-120000-aaaa", "rank", "3", "train.py",
    ]  # fmt: skip
    assert second.split()[-1] == "free"
    assert last == "1 host, 2 GPUs, 1 free"
    wide = shown(overview, 130)[1]
    assert "H100 80GB HBM3" in wide and "4711" in wide and "2 h" in wide


def test_a_broken_host_is_a_line_with_its_reason_and_hides_no_other() -> None:
    overview = looked(one(problem="no route to host"), one(host(gpu()), name="node2")).overview((), NOW)
    lines = shown(overview)
    assert "no route to host" in lines[1] and lines[2].startswith("node2")
    assert lines[-1] == "2 hosts, 1 GPU, 0 free, 1 without an answer"


def test_what_was_known_of_a_host_that_is_lost_stays_with_its_age() -> None:
    looking = looked(one(host(gpu())), one(problem="the connection broke off", at=NOW + 5))
    lines = shown(looking.overview((), NOW + 90))
    assert "the connection broke off; last heard 90 s ago" in lines[1]
    assert "free" not in "".join(lines[1:-1])


def test_a_host_that_says_nothing_more_is_counted_and_has_no_free_card() -> None:
    looking = looked(one(host(gpu(0.0, 0.0))), one(host(gpu(0.0, 0.0)), name="node2", at=NOW + 60))
    assert shown(looking.overview((), NOW + 5))[-1] == "2 hosts, 2 GPUs, 2 free"
    lines = shown(looking.overview((), NOW + 60))
    assert "nothing new; last heard 60 s ago" in lines[1]
    assert not lines[2].endswith("free") and lines[3].endswith("free")
    assert lines[-1] == "2 hosts, 2 GPUs, 1 free, 1 without an answer"


def test_unknown_is_never_zero_and_never_free() -> None:
    seen = host(gpu(None, temperature=None, watts=None), GpuSeen(name="x"), None)
    lines = shown(looked(one(seen)).overview((), NOW))
    assert lines[1].split()[:6] == ["node1", "0", "-", "60.0/80G", "-", "-"]
    assert lines[2].split()[:6] == ["node1", "1", "-", "-", "-", "-"]
    assert "GPU 2 is lost" in lines[3]
    assert lines[-1] == "1 host, 3 GPUs, 0 free"
    silent = shown(looked(one(HostSeen(time=NOW, driver="asked"))).overview((), NOW))
    assert "the GPUs' driver does not answer" in silent[1]


def test_idle_is_said_of_what_was_idle_all_the_time() -> None:
    held = (rank(),)
    times = [NOW + 10 * number for number in range(12)]
    looking = looked(*(one(host(gpu(0.0), jobs=held), at=at) for at in times))
    assert "idle 110 s" in shown(looking.overview((), times[-1]))[1]
    for between in (
        host(gpu(0.5), jobs=held),
        host(gpu(None), jobs=held),
        HostSeen(time=NOW, driver="asked"),
    ):
        told = [one(host(gpu(0.0), jobs=held), at=at) for at in times]
        told[-2] = one(between, at=times[-2])
        assert "idle" not in shown(looked(*told).overview((), times[-1]))[1]


def test_lines_can_be_chosen() -> None:
    overview = looked(one(host(gpu(), gpu(0.0, 0.0), jobs=(rank(),)))).overview((), NOW)
    assert len(shown(overview, only="free")) == 3 and len(shown(overview, only="ADA")) == 3


def test_many_jobs_on_one_card_and_many_hosts() -> None:
    jobs = tuple(rank(number=number) for number in range(7))
    news = [one(host(gpu(), jobs=jobs), name=f"node{number:03}") for number in range(256)]
    lines = shown(looked(*news).overview((), NOW))
    assert len(lines) == 256 * 4 + 2 and "and 4 more" in lines[4]


def test_hostile_words_do_nothing() -> None:
    seen = host(gpu(name=HOSTILE), jobs=(rank(user=HOSTILE, command=HOSTILE, run=HOSTILE),))
    run = RunLine(run="r", status="running", ranks=1, hosts=1, heard=NOW, last=HOSTILE)
    for width in (80, 130):
        text = "\n".join(shown(looked(one(seen, name=HOSTILE)).overview((run,), NOW), width))
        assert "\x1b" not in text and "\u202e" not in text


def test_a_run_has_its_pace_and_its_curve() -> None:
    pace = Pace(step=120, time=NOW - 3, loss=1.25, steps_per_s=2.0, tokens_per_s=None)
    losses = (3.0, 2.0, 1.0)
    told = RunLine(run="r1", status="running", ranks=4, hosts=2, pace=pace, losses=losses, heard=NOW - 1)
    run = msgspec.structs.replace(told, last="epoch 2")
    text = "\n".join(shown(Overview(hosts=(), runs=(run,), now=NOW)))
    assert "r1  running, 4 ranks on 2 hosts, its controller heard 1 s ago" in text
    assert "120, loss 1.25, 2 steps/s, 3 s ago" in text and "█▅▁" in text and "epoch 2" in text


@pytest.mark.parametrize(
    ("values", "text"),
    [((), ""), ((1.0,), ""), ((1.0, 1.0), "▁▁"), ((1.0, math.nan, 2.0), "▁ █"), ((math.inf, 1.0), "")],
)
def test_a_sparkline_has_gaps_where_there_is_no_number(values: tuple[float, ...], text: str) -> None:
    assert sparkline(values) == text


def test_a_recording_is_read_as_it_was_written_and_garbage_is_named(tmp_path: Path) -> None:
    path = tmp_path / "lab.ndjson"
    told = [one(host(gpu(), jobs=(rank(),))), one(problem="gone")]
    path.write_text("".join(map(write_news, told)) + '{"at": 1')
    assert list(read_news(path)) == told
    path.write_text(write_news(told[0]) + "[]\n")
    with pytest.raises(UsageError, match="line 2 is no recording of top"):
        list(read_news(path))
    with pytest.raises(UsageError, match="cannot be read"):
        list(read_news(tmp_path / "none"))


def test_what_a_node_says_is_checked() -> None:
    line = msgspec.json.encode(host(gpu(), None, jobs=(rank(),)))
    assert top_messages.decode(line) == host(gpu(), None, jobs=(rank(),))
