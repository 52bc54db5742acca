"""Run directories: what is kept, who supervises, and which run a name means."""

from __future__ import annotations

import errno
import os
import re
import stat
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from clusterctl.errors import ClusterctlError, UsageError
from clusterctl.plan.model import Setting
from clusterctl.store import claims, home, runs
from clusterctl.store.outcome import Outcome
from clusterctl.store.runs import RunDirectory
from tests.test_run_machine import plan as small_plan


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CLUSTERCTL_HOME", str(tmp_path))
    return tmp_path


def create(run: str = "20260101-120000-aaaa") -> RunDirectory:
    return RunDirectory.create(msgspec.structs.replace(small_plan(2), run=run))


def test_everything_is_private_and_secrets_are_not_written() -> None:
    plan = small_plan(1)
    node = msgspec.structs.replace(plan.nodes[0], settings=(Setting("HF_TOKEN", "hf_abc", "--env"),))
    directory = RunDirectory.create(msgspec.structs.replace(plan, nodes=(node,)))
    directory.append_event({"event": "say", "text": "x"})
    directory.append_log("h0", "rank-0.log", 0, b"x")
    directory.claim()
    for path in (directory.path, *directory.path.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert "hf_abc" not in (directory.path / "plan.json").read_text()


def test_when_a_host_printed_last_is_told_by_the_logs_of_its_ranks() -> None:
    directory = create()
    directory.append_log("h0", "agent.log", 0, b"x")
    directory.append_log("h0", "rank-0.log", 0, b"")
    assert directory.printed("h0") is None
    directory.append_log("h0", "rank-0.log", 0, b"step 1\n")
    os.utime(directory.host_logs("h0") / "rank-0.log", (5, 5))
    assert directory.printed("h0") == 5
    assert directory.printed("never heard of") is None


def test_a_piece_of_a_log_that_arrives_twice_changes_nothing() -> None:
    directory = create()
    for offset, piece in ((0, b"one "), (4, b"two "), (0, b"one "), (8, b"three")):
        directory.append_log("h0", "rank-0.log", offset, piece)
    assert (directory.host_logs("h0") / "rank-0.log").read_bytes() == b"one two three"
    assert directory.offsets("h0") == {"rank-0.log": 13}


def test_events_survive_a_controller_that_died_while_it_wrote() -> None:
    directory = create()
    directory.append_event({"event": "agent", "host": "h0", "node_rank": 0, "offset": 10})
    with (directory.path / "events.jsonl").open("a") as stream:
        stream.write('{"event": "rank-st')
    assert [event["event"] for event in directory.events()] == ["agent"]
    directory.append_event({"event": "next"})
    directory.append_event({"event": "end", "host": "h0", "node_rank": 0, "offset": 30})
    assert [event["event"] for event in directory.events()] == ["agent", "next", "end"]
    assert directory.recorded_events() == {0: 30}


def test_supervised_while_the_process_lives_and_not_after() -> None:
    directory = create()
    assert not directory.supervised()
    directory.claim()
    assert directory.supervised()
    child = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from clusterctl.store.runs import RunDirectory; from pathlib import Path\n"
            "RunDirectory(Path(sys.argv[1])).claim(); print('claimed', flush=True); sys.stdin.read()",
            str(directory.path),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    child.stdout.readline()
    assert directory.supervised()
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not directory.supervised(), "a zombie supervises nothing"
    child.communicate()
    assert not directory.supervised()


def test_a_pid_used_again_is_somebody_else() -> None:
    directory = create()
    claim = {"pid": os.getpid(), "started": 1, "host": "", "boot": ""}
    (directory.path / "supervisor.json").write_bytes(msgspec.json.encode(claim))
    assert not directory.supervised()


def test_a_controller_on_another_machine_is_not_taken_for_dead() -> None:
    directory = create()
    claim = {"pid": 1, "started": 1, "host": "desk.lab", "boot": "another"}
    (directory.path / "supervisor.json").write_bytes(msgspec.json.encode(claim))
    assert directory.controller() == "desk.lab"
    assert directory.supervised()


def test_a_restart_of_this_machine_ended_its_controllers() -> None:
    directory = create()
    directory.claim()
    path = directory.path / "supervisor.json"
    claim = msgspec.json.decode(path.read_bytes()) | {"boot": "the boot before"}
    path.write_bytes(msgspec.json.encode(claim))
    assert directory.controller() == ""
    assert not directory.supervised()


@pytest.mark.parametrize("text", ["", "{", "{}", '{"pid": "x"}'])
def test_a_damaged_claim_is_none(text: str) -> None:
    directory = create()
    (directory.path / "supervisor.json").write_text(text)
    assert not directory.supervised()


def test_stop_is_a_note_that_may_become_more_urgent() -> None:
    directory = create()
    assert directory.stop_asked() is None
    directory.ask_to_stop(now=False)
    assert directory.stop_asked() is False
    directory.ask_to_stop(now=True)
    assert directory.stop_asked() is True


def test_the_outcome_comes_back_as_it_was_written() -> None:
    directory = create()
    assert directory.outcome() is None
    outcome = Outcome(run=directory.run, status="lost", exit_code=121, left_behind={"h0": 0, "h1": None})
    directory.write("outcome.json", outcome)
    assert directory.outcome() == outcome


@pytest.mark.parametrize("name", ["plan.json", "outcome.json"])
def test_a_damaged_file_is_named(name: str) -> None:
    directory = create()
    (directory.path / name).write_text('{"run": ')
    with pytest.raises(ClusterctlError, match=name) as found:
        directory.plan(), directory.outcome()
    assert found.value.hint


def test_a_file_of_another_version_is_told_as_such() -> None:
    run = create()
    path = run.path / "plan.json"
    path.write_text(path.read_text().replace("clusterctl.plan/1", "clusterctl.plan/9"))
    with pytest.raises(ClusterctlError, match=r"schema is 'clusterctl\.plan/9'") as caught:
        run.plan()
    assert "another version" in caught.value.hint


def test_what_ends_a_run_guesses_none_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, last = (create(f"20260101-12000{n}-aaaa").run for n in range(3))
    going = {first}
    monkeypatch.setattr(RunDirectory, "running", lambda self: self.run in going)
    assert runs.find_run(None, sole=True).run == first
    going.add(second)
    assert runs.find_run(None).run == second
    with pytest.raises(UsageError, match=f"{first}, {second}"):
        runs.find_run(None, sole=True)
    going.clear()
    assert runs.find_run(None, sole=True).run == last


def test_which_run_is_meant() -> None:
    with pytest.raises(UsageError, match="no runs"):
        runs.find_run(None)
    for run in ("20260101-120000-aaaa", "20260101-120000-aaab", "20260202-120000-bbbb"):
        create(run)
    assert runs.find_run(None).run == "20260202-120000-bbbb"
    assert runs.find_run("202602").run == "20260202-120000-bbbb"
    assert runs.find_run("20260101-120000-aaaa").run == "20260101-120000-aaaa"
    with pytest.raises(UsageError, match="fits 2 runs"):
        runs.find_run("202601")
    with pytest.raises(UsageError, match="no run `2027`; the newest is 20260202"):
        runs.find_run("2027")


def test_what_is_no_run_directory_is_not_listed(own_home: Path) -> None:
    create()
    (own_home / "runs" / "notes.txt").write_text("mine")
    (own_home / "runs" / "20990101-000000-half").mkdir()
    assert [each.run for each in runs.all_runs()] == ["20260101-120000-aaaa"]


def test_an_id_begins_with_its_time_in_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    time.tzset()
    try:
        before = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        found = home.new_run_id()
        assert re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{4}", found)
        assert before <= found[:15] <= time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()


def test_the_newest_that_runs_is_meant_before_the_newest() -> None:
    create("20260101-120000-aaaa").claim()
    over = create("20260202-120000-bbbb")
    over.claim()
    over.write("outcome.json", Outcome(run=over.run, status="refused", exit_code=120))
    create("20260303-120000-cccc")
    assert runs.find_run(None).run == "20260101-120000-aaaa"


@pytest.mark.parametrize(
    "name", ["plan.json", "outcome.json", "supervisor.json", "stop.json", "events.jsonl"]
)
def test_a_fifo_in_place_of_a_file_holds_nobody_up(name: str) -> None:
    directory = create()
    (directory.path / name).unlink(missing_ok=True)
    os.mkfifo(directory.path / name)
    assert (directory.supervised(), directory.stop_asked(), list(directory.events())) == (False, None, [])
    assert len(runs.all_runs()) == (name != "plan.json")
    if name in ("plan.json", "outcome.json"):
        with pytest.raises(ClusterctlError, match="not a regular file"):
            directory.plan(), directory.outcome()


def test_foreign_things_in_a_run_are_passed_over() -> None:
    directory = create()
    directory.append_log("h0", "rank-0.log", 0, b"abc")
    (directory.host_logs("h0") / "folder").mkdir()
    (directory.host_logs("h0") / "rank-7.log").mkdir()
    os.mkfifo(directory.host_logs("h0") / "agent.log")
    assert directory.offsets("h0") == {"rank-0.log": 3}
    assert directory.log_fingerprint("h0", "agent.log") is None
    with (directory.path / "events.jsonl").open("ab") as stream:
        stream.write(b'\xff\xfe\n7\n{"no": "event"}\n' + b"[" * 100_000 + b'\n{"event": "say"}\n')
    assert list(directory.events()) == [{"event": "say"}]
    (directory.path / "stop.json").write_text("[]")
    assert directory.stop_asked() is None


@pytest.mark.parametrize("kind", ["file", "runs-file", "closed"])
def test_a_home_that_cannot_be_used_is_named_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    place = tmp_path / "home"
    monkeypatch.setenv("CLUSTERCTL_HOME", str(place))
    if kind == "file":
        place.write_text("")
    elif kind == "runs-file":
        place.mkdir()
        (place / "runs").write_text("")
    else:
        monkeypatch.setattr(Path, "mkdir", _refuse)
    with pytest.raises(ClusterctlError, match="cannot keep its runs in") as found:
        create()
    assert "export CLUSTERCTL_HOME=" in found.value.hint
    if kind != "closed":
        with pytest.raises(ClusterctlError, match="a file is in the way"):
            runs.all_runs()


def _refuse(*words: object, **more: object) -> None:
    raise OSError(errno.EROFS, "Read-only file system")


def test_of_two_that_take_over_one_does() -> None:
    directory = create()
    script = (
        "import sys; from clusterctl.store.runs import RunDirectory; from pathlib import Path\n"
        "held = RunDirectory(Path(sys.argv[1])).take_claim('stop')\n"
        "print(held.pid if held else 'mine', flush=True); sys.stdin.read()"
    )
    argv = [sys.executable, "-c", script, str(directory.path)]
    takers = [subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(2)]
    said = {taker.pid: taker.stdout.readline().decode().strip() for taker in takers if taker.stdout}
    mine = [pid for pid, word in said.items() if word == "mine"]
    assert len(mine) == 1
    assert set(said.values()) == {"mine", str(mine[0])}
    claim = directory.supervisor()
    assert claim is not None
    assert (claim.pid, claim.verb, claims.is_suspended(claim)) == (mine[0], "stop", False)
    for taker in takers:
        taker.communicate()
    assert directory.take_claim("stop") is None
    own = directory.supervisor()
    assert directory.take_claim("launch") == own
    assert directory.take_claim("launch", instead_of=own) is None


def test_who_is_suspended_is_told() -> None:
    directory = create()
    script = (
        "import os, signal, sys; from clusterctl.store.runs import RunDirectory; from pathlib import Path\n"
        "RunDirectory(Path(sys.argv[1])).claim(); os.kill(os.getpid(), signal.SIGSTOP)"
    )
    child = subprocess.Popen([sys.executable, "-c", script, str(directory.path)])
    os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
    claim = directory.supervisor()
    assert claim is not None
    assert claims.is_suspended(claim)
    child.kill()
    child.wait()
    assert directory.supervisor() is None


def test_a_run_is_removed_at_once_for_every_reader() -> None:
    directory = create()
    directory.append_log("h0", "rank-0.log", 0, b"abc")
    assert directory.size() > 3
    assert directory.pulled() == frozenset()
    directory.note_pulled("h1")
    directory.note_pulled("h0")
    assert directory.pulled() == {"h0", "h1"}
    directory.remove()
    assert (runs.all_runs(), list(directory.path.parent.iterdir())) == ((), [])


@pytest.mark.parametrize("name", ["../plan.json", "/etc/x", "rank-1.log/../../x", "rank-x.log", ""])
def test_a_node_cannot_choose_where_its_bytes_are_written(name: str) -> None:
    directory = create()
    with pytest.raises(ValueError, match="not the name of a log"):
        directory.append_log("h0", name, 0, b"x")
    assert [path.name for path in directory.path.rglob("*") if path.is_file()] == ["plan.json"]


def test_attempts_keep_their_plans_and_events_and_the_newest_counts() -> None:
    directory = create()
    first = directory.plan()
    directory.append_event({"event": "end", "host": "h0", "node_rank": 0, "offset": 30})
    spare = msgspec.structs.replace(first.nodes[-1], host="spare")
    second = msgspec.structs.replace(first, attempt=2, nodes=(*first.nodes[:-1], spare))
    directory.begin_attempt(second)
    assert (directory.newest_attempt(), directory.begun_attempt()) == (2, 1)
    directory.append_event({"event": "attempt", "attempt": 2})
    assert directory.begun_attempt() == 2
    directory.append_event({"event": "agent", "host": "spare", "node_rank": 0, "offset": 7})
    assert directory.plan() == second and directory.plan(1) == first
    assert directory.host_logs("spare").is_dir()
    assert directory.recorded_events() == {0: 7}
    everywhere = [node.host for node in directory.plan_of_all_attempts().nodes]
    assert everywhere == [*(node.host for node in second.nodes), first.nodes[-1].host]
