"""What pages over HTTP show of run directories: as they grow, as they end, as they are broken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from clusterctl.advise.explain import Explanation
from clusterctl.plan.model import LaunchPlan
from clusterctl.report.html.live import Shown
from clusterctl.report.html.run import run_parts
from clusterctl.session import record as records
from clusterctl.session.record import RecordReader
from clusterctl.session.runs import RunList
from clusterctl.session.serve import NoSuchRunError, a_run, the_list
from clusterctl.session.why import why
from clusterctl.store.metrics import METRICS
from clusterctl.store.outcome import Cause, Outcome
from clusterctl.store.runs import RunDirectory
from clusterctl.store.step import encode
from tests.test_advise_explain import PLAN
from tests.test_report_run_page import HOSTILE, step

FAILED = Outcome(
    run=PLAN.run,
    status="failed",
    exit_code=1,
    cause=Cause(kind="exception", message=f"bad batch {HOSTILE}", host="h1", rank=1, exit_code=1),
    seconds=100.0,
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CLUSTERCTL_HOME", str(tmp_path))
    return tmp_path


def begun(run: str = PLAN.run, **changes: Any) -> RunDirectory:
    directory = RunDirectory.create(msgspec.structs.replace(PLAN, run=run, **changes))
    directory.claim()
    return directory


def tell(directory: RunDirectory, *numbers: int, **told: Any) -> None:
    with (directory.path / METRICS).open("ab") as stream:
        stream.writelines(encode(step(number, **told)) for number in numbers)


def sample(directory: RunDirectory, host: str, *times: int, attempt: str = "") -> None:
    with (directory.host_logs(host) / f"samples{attempt}.ndjson").open("a") as stream:
        stream.writelines(f'{{"t":{1_800_000_000 + time},"cpu":0.5}}\n' for time in times)


def test_reading_on_shows_what_reading_all_shows(home: Path) -> None:
    directory = begun()
    reader = RecordReader(directory)
    assert reader.look().steps == () and reader.look() is reader.look(), "nothing new: the very same"
    tell(directory, 1, 2, 3)
    sample(directory, "h0", 1, 2)
    first = reader.look()
    assert [each.step for each in first.steps] == [1, 2, 3] and len(first.samples["h0"]) == 2
    with (directory.path / METRICS).open("ab") as stream:
        stream.write(encode(step(4))[:20])  # half a line, as a look may find it
    assert reader.look() is first
    with (directory.path / METRICS).open("ab") as stream:
        stream.write(encode(step(4))[20:])
    tell(directory, 2, loss=0.25)
    directory.append_event({"event": "note", "time": 1.0, "text": HOSTILE})
    directory.begin_attempt(msgspec.structs.replace(PLAN, attempt=2))
    sample(directory, "h0", 3)
    sample(directory, "h0", 9, attempt=".attempt-2")
    tell(directory, 4, 5, attempt=2)
    directory.write("outcome.json", FAILED)
    last = reader.look()
    taken = [(each.attempt, each.step) for each in last.steps]
    assert taken == [(1, 1), (1, 2), (1, 3), (1, 4), (2, 4), (2, 5)]
    assert last.steps[1].loss == 0.25 and len(last.samples["h0"]) == 4
    assert last == RecordReader(directory).look() and reader.look() is last
    assert run_parts(last) == run_parts(RecordReader(directory).look())


def test_what_is_larger_than_the_limit_is_said_and_not_kept(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = begun()
    tell(directory, *range(1, 30))
    reader = RecordReader(directory, largest=(directory.path / METRICS).stat().st_size)
    assert len(reader.look().steps) == 29 and reader.look().unread == ()
    tell(directory, 30)
    assert len(reader.look().steps) == 29 and reader.look().unread[0].startswith("metrics.jsonl has")


def test_logs_are_looked_at_again_only_when_there_is_a_reason(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def counted(*arguments: Any, **more: Any) -> Explanation:
        asked.append(1)
        return why(*arguments, **more)

    monkeypatch.setattr(records, "why", counted)
    directory = begun()
    reader = RecordReader(directory)
    for number in range(1, 6):
        tell(directory, number)
        reader.look()
    assert len(asked) == 1
    directory.append_event({"event": "note", "time": 1.0, "text": "x"})
    reader.look()
    directory.write("outcome.json", FAILED)
    assert reader.look().found.status == "failed" and len(asked) == 3


def test_a_run_is_over_when_a_look_after_its_outcome_finds_nothing_new(home: Path) -> None:
    directory = begun()
    look = a_run(directory.run)
    tell(directory, 1)
    first = look()
    assert look() is first and not first.over and "running, step 1" in first.parts["verdict"]
    directory.write("outcome.json", FAILED)
    second = look()
    tell(directory, 2)
    third = look()
    assert not second.over and not third.over and third.versions["curves"] != second.versions["curves"]
    assert second.versions["plan"] == third.versions["plan"] == first.versions["plan"], "not sent again"
    assert look().over and "failed after 1m 40s" in look().parts["verdict"]
    assert_harmless(look())


def test_a_run_that_is_not_there_or_was_removed_is_said(home: Path) -> None:
    with pytest.raises(NoSuchRunError):
        a_run("20260101-120000-abcd")()
    directory = begun()
    look = a_run(directory.run)
    look()
    directory.remove()
    with pytest.raises(NoSuchRunError):
        look()
    with pytest.raises(NoSuchRunError):
        a_run(directory.run[:-1])()


def assert_harmless(shown: Shown) -> None:
    for part in shown.parts.values():
        assert "<script" not in part and "<img" not in part and "\x1b" not in part and "\u202e" not in part


def test_the_list_tells_of_every_run_also_of_broken_and_hostile_ones(home: Path) -> None:
    good, odd = begun("20260101-120000-good"), begun("20260102-120000-dead", arguments=(HOSTILE,))
    tell(good, *range(1, 12), slow_host=HOSTILE)
    odd.write("outcome.json", FAILED)
    (broken := begun("20260103-120000-hurt")).write("outcome.json", {"status": 7})
    hostile = home / "runs" / "<script>alert(1)<\x1b[2J"
    hostile.mkdir()
    (hostile / "plan.json").write_text("{")
    look = the_list()
    text = look().parts["runs"]
    assert_harmless(look())
    assert text.count("<li>") == 4 and text.count("<a href=") == 2
    assert text.index(broken.run) < text.index(odd.run) < text.index(good.run), "the newest first"
    assert "cannot be read" in text and "status is a whole number, not text" in text
    assert "step 11, loss" in text and "slowest: rank 1" in text and "bad batch" in text
    assert look() is look(), "nothing new"


def test_a_run_that_has_not_changed_is_not_read_again(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    over, lives = begun("20260101-120000-over"), begun("20260102-120000-live")
    over.write("outcome.json", FAILED)
    runs = RunList()
    before, _ = runs.look()
    read = []
    plan = RunDirectory.plan

    def noted(self: RunDirectory, attempt: int | None = None) -> LaunchPlan:
        read.append(self.run)
        return plan(self, attempt)

    monkeypatch.setattr(RunDirectory, "plan", noted)
    assert runs.look()[0] == before and read == []
    tell(lives, 1)
    assert runs.look()[0] != before and set(read) == {lives.run}
    lives.write("supervisor.json", {"pid": 1})  # nobody's claim any more
    (row, _), older = runs.look()
    assert row.view is not None and row.view.status == "interrupted" and older == 0
