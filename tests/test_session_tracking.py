"""`launch --track` and `clusterctl track`: what is sent, and that a run is not disturbed by it."""

from __future__ import annotations

import importlib.util
import json
import os
import sqlite3
import struct
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from clusterctl.errors import UsageError
from clusterctl.plan.model import LaunchPlan, Setting
from clusterctl.run.display import Display
from clusterctl.session import tracking
from clusterctl.session.tracking import Sent, begin, config_of, send
from clusterctl.store.outcome import Outcome
from clusterctl.store.runs import RunDirectory
from clusterctl.store.step import Step, encode
from tests.test_run_machine import plan

PATIENCE = 120.0


class Kept:
    """A tracker that keeps what it is told."""

    where = "nowhere"

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self.end: tuple[str, int] | None = None

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.rows.append({"step": step, **values})

    def finish(self, status: str, exit_code: int) -> None:
        self.end = (status, exit_code)


class Heard(Display):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def tracked(track: Any = "trackio") -> LaunchPlan:
    node = plan(1).nodes[0]
    secret = Setting("HF_TOKEN", "hf_abcdefghijklmnopqrstuvwxyz", "--env")
    return msgspec.structs.replace(
        plan(1), track=track, nodes=(msgspec.structs.replace(node, settings=(*node.settings, secret)),)
    )


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDirectory:
    monkeypatch.setenv("CLUSTERCTL_HOME", str(tmp_path))
    return RunDirectory.create(tracked())


def write(directory: RunDirectory, *steps: Step) -> None:
    with (directory.path / "metrics.jsonl").open("ab") as file:
        file.write(b"".join(map(encode, steps)))


def end(directory: RunDirectory, status: Any = "succeeded", code: int = 0) -> None:
    directory.write("outcome.json", Outcome(run=directory.run, status=status, exit_code=code))


def sent(directory: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> Kept:
    kept = Kept()
    monkeypatch.setattr(tracking, "open_tracker", lambda *_: kept)
    send(directory, "trackio", lambda _: None, lambda _: None)
    return kept


def test_every_step_is_sent_once_with_its_own_number_through_all_attempts(
    directory: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(directory, Step(attempt=1, step=1, loss=3.0), Step(attempt=1, step=2, loss=2.5))
    write(directory, Step(attempt=1, step=2, loss=2.5, eval_loss=2.6))
    write(directory, Step(attempt=2, step=2, loss=2.4), Step(attempt=2, step=3, loss=float("nan")))
    end(directory, "failed", 3)
    kept = sent(directory, monkeypatch)
    told = [(row["step"], row["attempt"], row.get("loss"), row.get("eval_loss")) for row in kept.rows]
    assert told[:4] == [(1, 1, 3.0, None), (2, 1, 2.5, None), (2, 1, None, 2.6), (2, 2, 2.4, None)]
    assert told[4][:2] == (3, 2) and kept.rows[4]["loss"] != kept.rows[4]["loss"]
    assert kept.end == ("failed", 3)
    assert directory.find("track-trackio.json", Sent) == Sent(where="nowhere", attempt=2, step=3)


def test_another_process_goes_on_where_the_last_one_stopped(
    directory: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "_ALONE", 0.0)
    write(directory, Step(attempt=1, step=1, loss=3.0))
    first = sent(directory, monkeypatch)
    assert first.end == ("interrupted", 1)
    write(directory, Step(attempt=1, step=2, loss=2.0), Step(attempt=2, step=1, loss=3.0))
    end(directory)
    second = sent(directory, monkeypatch)
    assert [(row["attempt"], row["step"]) for row in second.rows] == [(1, 2), (2, 1)]


def test_a_run_that_tells_of_no_step_is_no_run_there(
    directory: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    end(directory, "failed", 1)
    monkeypatch.setattr(tracking, "open_tracker", lambda *_: pytest.fail("it was opened"))
    assert send(directory, "wandb", lambda _: None, lambda _: None) == Sent()


def test_no_secret_is_among_what_is_sent(directory: RunDirectory) -> None:
    config = config_of(directory.plan())
    assert config["run"] == directory.run and config["world_size"] == 1
    assert "hf_abc" not in json.dumps(config) and "HF_TOKEN" in json.dumps(config)


def test_only_one_process_sends(directory: RunDirectory) -> None:
    with tracking._alone(directory, "wandb"), pytest.raises(UsageError, match="sends run"):
        send(directory, "wandb", lambda _: None, lambda _: None)


def test_nothing_is_begun_unless_it_was_asked_for(directory: RunDirectory) -> None:
    heard = Heard()
    begin(directory, tracked(""), heard)
    assert not heard.said and not (directory.path / "track.log").exists()


def await_words(heard: Heard, many: int) -> list[str]:
    until = time.monotonic() + PATIENCE
    while len(heard.said) < many and time.monotonic() < until:
        time.sleep(0.05)
    return heard.said


def test_a_library_that_is_missing_is_said_once(
    directory: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "is_installed", lambda _: False)
    heard = Heard()
    begin(directory, tracked(), heard)
    (said,) = await_words(heard, 1)
    assert said.startswith("trackio gets nothing of this run: it is not installed here")
    until = time.monotonic() + PATIENCE
    while not list(directory.events()) and time.monotonic() < until:
        time.sleep(0.01)
    (event,) = directory.events()
    assert (event["event"], event["text"]) == ("say", said)


@pytest.mark.parametrize(
    ("library", "words"),
    [
        ("raise RuntimeError('log in first')", "nothing more of this run: trackio: log in first"),
        ("import os; os.kill(os.getpid(), 9)", "nothing more of this run: its process has ended with -9"),
        ("import signal, time; signal.alarm(1); time.sleep(600)", "it has not answered for 600 s"),
    ],
)  # fmt: skip
def test_a_library_that_fails_is_said_once(
    directory: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str, words: str
) -> None:
    write(directory, Step(attempt=1, step=1, loss=3.0))
    end(directory)
    (tmp_path / "trackio.py").write_text(library)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    heard = Heard()
    begin(directory, tracked(), heard)
    (said,) = await_words(heard, 1)
    assert words in said and f"clusterctl track {directory.run} --to trackio" in said


# The real ones, where they are installed


def finished(directory: RunDirectory) -> None:
    write(directory, *(Step(attempt=1, step=step, loss=3.0 / step, lr=1e-3) for step in range(1, 6)))
    write(directory, *(Step(attempt=2, step=step, loss=2.0 / step) for step in range(4, 8)))
    end(directory)


def track(directory: RunDirectory, name: str, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "clusterctl", "track", directory.run, "--to", name],
        env={**os.environ, **env}, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


LOSSES = [
    *((step, round(3.0 / step, 4)) for step in range(1, 6)),
    *((step, round(2.0 / step, 4)) for step in range(4, 8)),
]


@pytest.mark.long
def test_the_real_trackio_has_the_values(directory: RunDirectory, tmp_path: Path) -> None:
    if importlib.util.find_spec("trackio") is None:
        pytest.skip("trackio is not installed")
    finished(directory)
    assert "sent to step 7" in track(directory, "trackio", TRACKIO_DIR=str(tmp_path / "kept"))
    with sqlite3.connect(tmp_path / "kept/clusterctl.db") as base:
        found = base.execute("select run_name, step, metrics from metrics order by id").fetchall()
    assert {run for run, _, _ in found} == {directory.run}
    assert [(step, round(json.loads(told)["loss"], 4)) for _, step, told in found] == LOSSES


@pytest.mark.long
def test_the_real_wandb_has_the_values_and_nothing_leaves_the_machine(directory: RunDirectory) -> None:
    if importlib.util.find_spec("wandb") is None:
        pytest.skip("wandb is not installed")
    finished(directory)
    said = track(directory, "wandb", WANDB_MODE="offline")
    (folder,) = (directory.path / "wandb").glob("offline-run-*")
    assert str(folder) in said.replace("\n", "")
    rows, config = read_back(folder / f"run-{directory.run}.wandb")
    assert [(row["step"], round(row["loss"], 4)) for row in rows] == LOSSES
    assert [row["attempt"] for row in rows] == [1] * 5 + [2] * 4
    assert config["world_size"] == 1 and "hf_abc" not in json.dumps(config)


def read_back(path: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows and config of a run that W&B has kept offline: records in LevelDB's format, after a header."""
    wandb_pb2 = importlib.import_module("wandb.proto.wandb_internal_pb2")
    rows: list[dict[str, Any]] = []
    config: dict[str, Any] = {}
    data, place, whole = path.read_bytes(), 7, b""
    while place + 7 <= len(data):
        if (1 << 15) - place % (1 << 15) < 7:  # no record's head is broken over two blocks
            place += (1 << 15) - place % (1 << 15)
            continue
        size, part = struct.unpack("<HB", data[place + 4 : place + 7])
        whole += data[place + 7 : place + 7 + size]
        place += 7 + size
        if part in (1, 4):  # all of a record, or its end
            record = wandb_pb2.Record()
            record.ParseFromString(whole)
            each = record.history.item
            if each:
                rows.append(
                    {(".".join(one.nested_key) or one.key): json.loads(one.value_json) for one in each}
                )
            config |= {one.key: json.loads(one.value_json) for one in record.run.config.update}
            whole = b""
    return rows, config
