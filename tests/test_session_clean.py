"""`clean`: which runs go, which stay and why, with hosts played by the test."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from typer.testing import CliRunner

from clusterctl.ask import clean as ask_clean
from clusterctl.ask.clean import Cleaned, Part
from clusterctl.cli.app import app
from clusterctl.errors import UsageError
from clusterctl.messages.clean import Removal
from clusterctl.session import clean as session_clean
from clusterctl.session.hosts import transport_of
from clusterctl.session.pull import newest_that_worked
from clusterctl.store import runs
from clusterctl.store.outcome import Outcome
from clusterctl.store.runs import RunDirectory
from tests.test_run_machine import plan as small_plan

A, B = "20260101-120000-aaaa", "20260101-130000-bbbb"


class Hosts:
    """Hosts h0 and h1, which answer as told; ``asked`` is what they heard."""

    def __init__(self) -> None:
        self.asked: dict[str, Mapping[str, Part]] = {}
        self.says: dict[str, Any] = {}
        self.silent: set[str] = set()

    def clean(
        self,
        transport: object,
        parts: Mapping[str, Mapping[str, Part]],
        *,
        dry_run: bool,
        on_done: Callable[[str], None],
    ) -> tuple[Cleaned, ...]:
        self.asked.update(parts)
        for host in parts:
            on_done(host)
        return tuple(self._answer(host, of_host) for host, of_host in parts.items())

    def _answer(self, host: str, parts: Mapping[str, Part]) -> Cleaned:
        if host in self.silent:
            return Cleaned(host=host, problem="no answer on port 22")
        removals = []
        for run, part in parts.items():
            what = self.says.get(host, "removed")
            if what == "outputs" and part.take_outputs:
                what = "removed"
            removals.append(Removal(run=run, what=what, bytes=1_000_000))
        return Cleaned(host=host, runs=tuple(removals), snapshots=1, snapshot_bytes=2_000_000)

    def close(self) -> None:
        return


@pytest.fixture
def hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hosts:
    monkeypatch.setenv("CLUSTERCTL_HOME", str(tmp_path))
    found = Hosts()
    monkeypatch.setattr(ask_clean, "clean", found.clean)
    monkeypatch.setattr(session_clean, "transport_of", lambda plan: cast(Any, found))
    return found


def over(run: str = A) -> RunDirectory:
    directory = RunDirectory.create(msgspec.structs.replace(small_plan(2), run=run))
    directory.write("outcome.json", Outcome(run=run, status="succeeded", exit_code=0))
    return directory


def cli(*words: str) -> tuple[int, str]:
    found = CliRunner().invoke(app, ["clean", *words], standalone_mode=False)
    if found.exception is not None:
        raise found.exception
    return int(found.return_value or 0), " ".join(found.output.split())


def left() -> list[str]:
    return [directory.run for directory in runs.all_runs()]


def test_what_is_over_goes_everywhere(hosts: Hosts) -> None:
    over(A), over(B)
    code, text = cli(A)
    assert (code, left()) == (0, [B])
    assert hosts.asked["h1"] == {A: Part(node_rank=1, take_outputs=False)}
    assert "h0: 1 run, 1 snapshot of code, 3.0 MB freed" in text
    assert "here: 1 run," in text


def test_a_dry_run_removes_nothing(hosts: Hosts) -> None:
    over(A)
    code, text = cli(A, "--dry-run")
    assert (code, left()) == (0, [A])
    assert "3.0 MB would be freed" in text


def test_by_age(hosts: Hosts) -> None:
    over(A), over(B)
    plan = runs.find_run(A).path / "plan.json"
    os.utime(plan, (time.time() - 8 * 86400,) * 2)
    assert (cli("--older-than", "7d")[0], left()) == (0, [B])
    assert cli("--older-than", "7d") == (0, "nothing to clean")


def test_a_run_that_goes_on_stays(hosts: Hosts) -> None:
    directory = RunDirectory.create(msgspec.structs.replace(small_plan(2), run=A))
    directory.claim()
    code, text = cli(A, "--outputs", "--here-only")
    assert (code, left(), hosts.asked) == (0, [A], {})
    assert f"clusterctl stop {A}" in text


def test_outputs_that_were_never_pulled_keep_their_run(hosts: Hosts) -> None:
    directory = over(A)
    hosts.says = {"h0": "outputs", "h1": "outputs"}
    directory.note_pulled("h0")
    code, text = cli(A)
    assert (code, left()) == (0, [A])
    assert f"kept {A} outputs on h1 were never pulled: clusterctl pull {A}, or clean --outputs" in text
    directory.note_pulled("h1")
    assert (cli(A)[0], left()) == (0, [])
    over(B)
    assert (cli(B, "--outputs")[0], left()) == (0, [])


@pytest.mark.parametrize("what", ["silent", "failed", "running"])
def test_a_host_that_could_not_be_cleaned_is_named_and_the_run_stays(hosts: Hosts, what: str) -> None:
    over(A)
    if what == "silent":
        hosts.silent.add("h1")
    else:
        hosts.says["h1"] = what
    code, text = cli(A)
    assert (code, left()) == (0 if what == "running" else 1, [A])
    assert {"silent": "h1 gave no answer", "failed": "on h1", "running": "it is running"}[what] in text
    assert (cli(A, "--here-only")[0], left()) == (0, [])


def test_a_run_whose_way_is_gone_holds_up_no_other(
    hosts: Hosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As that of a sandbox that Python brought up and took down."""
    played = cast(Any, hosts)
    monkeypatch.setattr(
        session_clean, "transport_of", lambda plan: transport_of(plan) if plan.ssh_config else played
    )
    gone = msgspec.structs.replace(small_plan(2), run=A, ssh_config=str(tmp_path / "gone"))
    RunDirectory.create(gone).write("outcome.json", Outcome(run=A, status="succeeded", exit_code=0))
    over(B)
    code, text = cli(A, B)
    assert (code, left()) == (1, [A])
    assert f"kept {A} the ssh config {tmp_path}/gone of its launch is gone; clean {A} --here-only" in text
    assert (cli(A, "--here-only")[0], left()) == (0, [])


def test_nothing_is_pulled_of_a_run_that_was_refused(hosts: Hosts) -> None:
    over(A)
    over(B).write("outcome.json", Outcome(run=B, status="refused", exit_code=120))
    assert newest_that_worked().run == A
    runs.find_run(A).remove()
    assert newest_that_worked().run == B


def test_a_damaged_run_is_said_and_goes_when_no_host_is_meant(hosts: Hosts) -> None:
    (over(A).path / "plan.json").write_text("{")
    over(B)
    code, text = cli(A, B)
    assert (code, left()) == (1, [A])
    assert "plan.json cannot be read" in text
    assert (cli(A, "--here-only")[0], left()) == (0, [])


@pytest.mark.parametrize("words", [[], [A, "--older-than", "7d"], ["--older-than", "soon"], ["2099"]])
def test_wrong_usage(hosts: Hosts, words: list[str]) -> None:
    over(A)
    with pytest.raises(UsageError):
        cli(*words)
    assert left() == [A]
