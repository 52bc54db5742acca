"""What ranks tell of their steps becomes one line a step: values in, values out, and a run directory."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest

from clusterctl.messages.relay import LogPiece
from clusterctl.run.log_collector import LogCollector
from clusterctl.run.metrics import collection
from clusterctl.run.metrics.collection import RunMetrics
from clusterctl.run.metrics.merge import PATIENCE, Merger
from clusterctl.run.metrics.record import Told, parse
from clusterctl.store.metrics import METRICS, MetricsTail, read_steps
from clusterctl.store.runs import RunDirectory
from clusterctl.store.step import Step, as_one, decode, encode
from tests.test_run_machine import plan

HOSTS = {0: "h0", 1: "h1"}


def tell(merger: Merger, rank: int, step: int, now: float = 0.0, **values: float) -> None:
    time = values.pop("t", None)
    merger.take(rank, Told(step, values, time), now, came=None)


def numbers(lines: list[Step]) -> list[int]:
    return [line.step for line in lines]


# One line of one rank


@pytest.mark.parametrize(
    ("line", "step", "values"),
    [
        (b'{"step": 3, "loss": 1.5, "lr": 1e-4}', 3, {"loss": 1.5, "lr": 1e-4}),
        (
            b'{"step": 3.0, "loss": "inf", "note": "x", "ok": true, "accuracy": 0.5}',
            3,
            {"loss": math.inf, "accuracy": 0.5},
        ),
        (
            b'{"step": 1, "loss": Infinity, "step_s": -1, "tokens": 1e300, "data_s": "nan"}',
            1,
            {"loss": math.inf},
        ),
        (b'{"step": 1, "t": 1e300, "loss": 1%s}' % (b"0" * 400), 1, {}),
    ],
)
def test_a_line_tells_of_a_step(line: bytes, step: int, values: dict[str, float]) -> None:
    assert parse(line) == Told(step, values)


@pytest.mark.parametrize(
    "line",
    [
        b"loss 3",
        b"",
        b"[1, 2]",
        b"{",
        b'{"loss": 1}',
        b'{"step": -1}',
        b'{"step": "nan"}',
        b'{"step": 1.5}',
        b'{"step": true}',
        b'{"step": 1e40}',
        b"{" * 10_000,
        b'{"a":' * 60_000,
        b'{"step": 1, "x": "%s"}' % (b"x" * 70_000),
        b'{"step": \xff}',
    ],
)
def test_what_tells_of_no_step_is_nothing(line: bytes) -> None:
    assert parse(line) is None


def test_not_a_number_is_kept_and_so_is_its_word() -> None:
    told = parse(b'{"step": 1, "loss": NaN}')
    assert told is not None and math.isnan(told.values["loss"])
    line = encode(Step(attempt=1, step=1, loss=math.nan, loss_max=-math.inf, other={"a": math.inf}))
    assert json.loads(line)["loss"] == "nan"
    step = decode(line)
    assert step is not None and math.isnan(step.loss or 0.0)
    assert (step.loss_max, step.other, step.lr) == (-math.inf, {"a": math.inf}, None)


def test_names_of_their_own_are_bounded() -> None:
    told = parse(json.dumps({"step": 1, "x" * 65: 1} | {f"m{n}": n for n in range(1000)}).encode())
    assert told is not None and len(told.values) == 31


@pytest.mark.parametrize(
    "line", [b"", b"{}", b'{"v": 2, "attempt": 1, "step": 1}', b'{"v": 1, "step": 1}', b"[]"]
)
def test_what_is_no_line_of_ours_is_passed_over(line: bytes) -> None:
    assert decode(line) is None


# All ranks


def test_a_step_is_written_when_all_ranks_told_it() -> None:
    merger = Merger(1, HOSTS)
    tell(
        merger,
        0,
        1,
        loss=2.0,
        lr=0.1,
        tokens=100,
        step_s=0.5,
        data_s=0.1,
        grad_norm=1.0,
        peak_bytes=7,
        t=50.0,
    )
    assert merger.lines(1.0) == []
    tell(
        merger,
        1,
        1,
        loss=4.0,
        lr=0.1,
        tokens=100,
        step_s=1.0,
        data_s=0.1,
        grad_norm=1.0,
        peak_bytes=9,
        t=51.0,
    )
    (line,) = merger.lines(1.0)
    assert (line.ranks, line.missing, line.time) == (2, (), 51.0)
    assert (line.loss, line.loss_max, line.lr, line.grad_norm) == (3.0, 4.0, 0.1, 1.0)
    assert (line.tokens, line.tokens_per_s, line.peak_bytes) == (200, 200.0, 9)
    assert (line.step_s, line.step_s_min, line.step_s_max) == (0.75, 0.5, 1.0)
    assert (line.slow_rank, line.slow_host, line.step_s_ranks) == (1, "h1", (0.5, 1.0))
    assert line.data_share == pytest.approx(0.15)
    assert merger.lines(2.0) == []


def test_a_missing_rank_is_none_and_never_nought() -> None:
    merger = Merger(1, HOSTS)
    for rank in (0, 1):
        tell(merger, rank, 1, tokens=10, step_s=1.0)
    tell(merger, 0, 2, tokens=10, step_s=1.0)
    assert numbers(merger.lines(99.0)) == [1]  # a rank that tells is waited for, however long
    for rank in (0, 1):
        tell(merger, rank, 3, tokens=10, step_s=1.0)
    second, third = merger.lines(99.0)
    assert (second.step, second.missing, second.tokens, second.tokens_per_s) == (2, (1,), None, None)
    assert second.step_s_ranks == () and third.tokens == 20


def test_a_rank_that_never_tells_is_not_waited_for_without_end() -> None:
    merger = Merger(1, HOSTS)
    tell(merger, 0, 1, tokens=10)
    assert merger.lines(PATIENCE / 2) == []
    (line,) = merger.lines(PATIENCE)
    assert (line.ranks, line.missing, line.tokens) == (1, (), 10)


def test_what_comes_late_amends_its_line() -> None:
    merger = Merger(1, HOSTS)
    tell(merger, 0, 1, loss=1.0)
    tell(merger, 0, 2, loss=1.0)
    assert numbers(merger.lines(PATIENCE)) == [1, 2]
    tell(merger, 1, 1, loss=3.0)
    tell(merger, 0, 2, eval_loss=9.0)
    first, second = merger.lines(PATIENCE)
    assert (first.step, first.loss, second.eval_loss, second.missing) == (1, 2.0, 9.0, (1,))


def test_the_end_writes_what_is_open() -> None:
    merger = Merger(1, HOSTS)
    tell(merger, 0, 5)
    tell(merger, 1, 4)
    assert numbers(merger.lines(0.0, over=True)) == [4, 5]


def test_ranks_that_tell_in_another_order_cost_little() -> None:
    merger = Merger(1, HOSTS)
    for step in range(20_000):
        tell(merger, 0, step)
        tell(merger, 1, 40_000 - step)
        merger.lines(0.0) if step % 1000 == 0 else None
    assert len(merger._open) < 12_000
    merger.lines(0.0)
    assert len(merger._open) < 4_200
    tell(merger, 0, 0)
    assert merger.late >= 1


def test_step_times_follow_from_the_times_of_steps() -> None:
    merger = Merger(1, {0: "h0"})
    for step, time in ((10, 100.0), (20, 105.0), (21, 104.0)):
        tell(merger, 0, step, t=time)
    assert [line.step_s for line in merger.lines(0.0)] == [None, 0.5, None]


# Files


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDirectory:
    monkeypatch.setenv("CLUSTERCTL_HOME", str(tmp_path))
    return RunDirectory.create(plan(2))


class Run:
    """The ranks of two hosts, h0 and h1, and what is said of their metrics."""

    def __init__(self, directory: RunDirectory, *, limit: int = 0) -> None:
        self.said: list[str] = []
        self.directory = directory
        self.logs = LogCollector(directory, self.said.append, limit=limit)
        self.metrics = RunMetrics(directory, plan(2), self.said.append)
        self.sizes = [0, 0]

    def writes(self, rank: int, *records: object, raw: bytes = b"") -> None:
        data = raw + b"".join(json.dumps(record).encode() + b"\n" for record in records)
        name = f"metrics-{rank}.jsonl"
        self.logs.take(f"h{rank}", LogPiece(name=name, offset=self.sizes[rank], data=data), 0.0)
        self.metrics.grew(f"h{rank}", name)
        self.sizes[rank] += len(data)

    def look(self, *, over: bool = False) -> list[Step]:
        self.metrics.look(over=over)
        return read_steps(self.directory.path)


def test_metrics_of_ranks_are_merged_while_they_come(directory: RunDirectory) -> None:
    run, tail = Run(directory), MetricsTail(directory.path)
    run.writes(0, {"step": 1, "loss": 1.0})
    assert run.look() == [] and tail.news() == []
    run.writes(1, {"step": 1, "loss": 3.0})
    run.writes(1, raw=b'{"step": 2, "lo')
    assert [(step.step, step.loss) for step in run.look()] == [(1, 2.0)]
    run.writes(1, raw=b"\n")
    run.writes(0, {"step": 2, "loss": 1.0})
    assert numbers(tail.news()) == [1] and tail.news() == []
    assert [(step.step, step.missing) for step in run.look(over=True)] == [(1, ()), (2, (1,))]
    assert numbers(tail.news()) == [2]
    assert len(run.said) == 1 and "h1: rank 1" in run.said[0]
    assert (directory.path / "metrics" / "rank1.jsonl").read_bytes().startswith(b'{"step": 1')
    assert (directory.path / METRICS).stat().st_mode & 0o777 == 0o600


def test_a_controller_that_takes_over_writes_the_same(directory: RunDirectory) -> None:
    earlier = encode(Step(attempt=2, step=9, loss=7.0))
    directory.write_bytes(METRICS, earlier)
    run, tail = Run(directory), MetricsTail(directory.path)
    for rank in (0, 1):
        run.writes(rank, {"step": 1, "loss": 1.0}, {"step": 2, "loss": 2.0})
    before = run.look()
    assert numbers(before) == [1, 2, 9] and numbers(tail.news()) == [9, 1, 2]
    other = Run(directory)
    assert other.look() == before
    assert sorted(numbers(tail.news())) == [1, 2, 9]
    assert numbers(as_one([*before, Step(attempt=3, step=2)])) == [1, 2, 9]


def test_garbage_without_end_costs_one_line(directory: RunDirectory) -> None:
    run = Run(directory)
    run.writes(0, raw=b"\x1b[2J" + os.urandom(300_000).replace(b"\n", b"."))
    run.writes(0, raw=b"x" * 300_000 + b"\n" + b'"a"\n' * 10_000)
    run.writes(0, {"step": 1, "loss": 1.0}, {"step": 1 << 60})
    run.writes(1, {"step": 1, "loss": 3.0})
    for _ in range(100):
        run.look()
    assert [step.loss for step in run.look(over=True)] == [2.0]
    assert len(run.said) == 1


def test_a_long_history_is_read_in_the_order_of_its_steps(directory: RunDirectory) -> None:
    run = Run(directory)
    for rank, note in ((0, "x" * 50), (1, "")):
        run.writes(rank, *({"step": step, "loss": rank, "note": note} for step in range(1, 5001)))
    found = run.look(over=True)
    assert numbers(found) == list(range(1, 5001))
    assert {(step.ranks, step.loss) for step in found} == {(2, 0.5)}
    assert run.said == []


def test_a_flood_of_garbage_does_not_starve_the_others(directory: RunDirectory) -> None:
    run = Run(directory)
    run.writes(0, raw=b"garbage\n" * 500_000)
    run.writes(1, {"step": 1, "loss": 3.0})
    run.metrics.look()
    assert run.metrics._ranks["h1", "metrics-1.jsonl"].read > 0


def test_a_look_takes_a_moment_however_much_there_is(
    directory: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(directory)
    for rank in (0, 1):
        run.writes(rank, *({"step": step} for step in range(1, 3001)))
    monkeypatch.setattr(collection, "_AT_ONCE", 0.0)
    lengths = [len(run.look()) for _ in range(40)]
    assert lengths == sorted(lengths) and 0 < lengths[5] < 3000
    assert len(run.look(over=True)) == 3000


def test_what_was_cut_out_of_a_file_is_passed_over(directory: RunDirectory) -> None:
    text = b'{"step": 1}\n\n[clusterctl: bytes 12 to 99 of this log were cut out: 0.0 MB]\nep": 7}\n'
    text += b'{"step": 8}\n'
    run = Run(directory)
    run.writes(0, raw=text)
    assert numbers(run.look(over=True)) == [1, 8]


def test_a_fault_of_ours_stops_no_run(directory: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyError("x")

    run = Run(directory)
    monkeypatch.setattr(Merger, "take", broken)
    run.writes(0, {"step": 1})
    run.look()
    run.look()
    assert run.said == ["metrics are read no further: KeyError: 'x'"]


def test_a_full_disk_takes_lines_later(directory: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(directory)
    for rank in (0, 1):
        run.writes(rank, {"step": 1})
    real = os.write
    monkeypatch.setattr(os, "write", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    assert run.look() == []
    monkeypatch.setattr(os, "write", real)
    assert numbers(run.look()) == [1]
