"""The agent on real run directories with small engines: what it tells, whom it ends, what it survives."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clusterctl.messages import events
from clusterctl.node.run import agent_process
from clusterctl.node.run.ends import was_told
from clusterctl.node.run.memory import OutOfMemory
from clusterctl.node.shared import processes
from clusterctl.node.shared.locks import host_mark
from tests.node_run import PYTHON, SECRET, Make, NodeRun, node_runs, other_python, wait_until

# Counts its SIGTERMs, and saves only when every other rank saves with it.
SAVES = """
import os, signal, time
rank, folder, others = os.environ["RANK"], os.environ["FOLDER"], RANKS
told = []
def save(*_):
    told.append(1)
    open(folder + "/saving-" + rank, "w").close()
    while not all(os.path.exists(folder + "/saving-%d" % each) for each in others):
        time.sleep(0.01)
    time.sleep(0.3)
    print("saved after", len(told), flush=True)
    os._exit(0)
signal.signal(signal.SIGTERM, save)
print("ready", flush=True)
if rank == FAILS:
    while not all(os.path.exists(folder + "/ready-%d" % each) for each in others): time.sleep(0.01)
    os._exit(7)
open(folder + "/ready-" + rank, "w").close()
time.sleep(600)
"""
SLEEPS = "import time; print('ready', flush=True); time.sleep(600)"
# Its grandchild left the session and cleared its environment.
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = "import os, time; os.setsid(); print('ready', flush=True); time.sleep(600)"
subprocess.Popen([sys.executable, "-S", "-c", child], env={})
time.sleep(600)
"""


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with node_runs(tmp_path) as make:
        yield make


def saves(ranks: int, fails: str = "none") -> str:
    saving = [each for each in range(ranks) if str(each) != fails]
    return SAVES.replace("RANKS", repr(saving)).replace("FAILS", repr(fails))


def test_a_run_that_succeeds_is_told_from_start_to_end(make: Make) -> None:
    run = make("import os; print('rank', os.environ['RANK'])", ranks=(0, 1)).start()
    end = run.wait_end()
    told = run.events()
    assert isinstance(told[0], events.AgentStarted)
    assert (told[0].pid, told[0].started) == (run.identity["pid"], run.identity["started"])
    assert told[0].boot == processes.boot_id()
    assert isinstance(told[1], events.EngineStarted)
    assert {each.rank for each in run.told(events.RankStarted)} == {0, 1}
    exits = run.told(events.RankExited)
    assert {(each.rank, each.code, each.told, each.oom) for each in exits} == {
        (0, 0, False, ""),
        (1, 0, False, ""),
    }
    assert run.told(events.EngineExited)[0].code == 0
    assert (end.left, end.processes) == (0, ())
    assert [run.log(rank) for rank in (0, 1)] == ["rank 0\n", "rank 1\n"]


def test_the_environment_never_lies_in_a_file(make: Make) -> None:
    run = make("import os; print(len(os.environ['SECRET']), flush=True); import time; time.sleep(600)")
    run.start().wait_for_log(f"{len(SECRET)}\n")
    assert SECRET not in everything(run)
    run.stop(0.0)
    run.wait_end()
    assert SECRET not in everything(run)
    assert not (run.root / "job.json").exists()


def everything(run: NodeRun) -> str:
    return "".join(path.read_text("latin-1") for path in run.root.rglob("*") if path.is_file())


@pytest.mark.parametrize("nested", [False, True], ids=["engine", "engine-behind-a-runner"])
def test_on_a_stop_all_ranks_save_together_and_hear_one_signal(make: Make, nested: bool) -> None:
    run = make(saves(3), ranks=(0, 1, 2), nested=nested).start()
    run.wait_for_log("ready", 0, 1, 2)
    run.wait_for(events.RankStarted, 3)
    run.stop(50.0)
    assert run.wait_end().left == 0
    assert [run.log(rank) for rank in range(3)] == ["ready\nsaved after 1\n"] * 3
    assert all(each.code == 0 for each in run.told(events.RankExited))


def test_after_a_failure_the_engine_does_not_interfere(make: Make) -> None:
    run = make(saves(3, fails="1"), ranks=(0, 1, 2), failure_grace=50.0).start()
    run.wait_end()
    assert [run.log(rank) for rank in (0, 2)] == ["ready\nsaved after 1\n"] * 2
    exits = {each.rank: each for each in run.told(events.RankExited)}
    assert (exits[1].code, exits[1].told) == (7, False)
    assert run.told(events.EngineExited)[0].told


def test_what_a_shell_waits_for_hears_the_signal_too(make: Make) -> None:
    run = make(["sh", "-c", f'{PYTHON} -I -S -u -c "$0"; echo over', saves(1)]).start()
    run.wait_for_log("ready")
    run.wait_for(events.RankStarted)
    run.stop(50.0)
    run.wait_end()
    assert "saved after 1" in run.log()


def test_a_stop_during_the_engines_start_waits_for_nobody(make: Make) -> None:
    run = make(engine=[PYTHON, "-c", "import time; time.sleep(600)"]).start()
    run.wait_for(events.EngineStarted)
    run.stop(600.0)
    assert run.wait_end().left == 0
    assert run.told(events.EngineExited)[0].told


def test_what_ignores_every_signal_is_killed_and_reported(make: Make) -> None:
    run = make(STUBBORN).start()
    run.wait_for_log("ready")
    run.stop(0.1)
    assert run.wait_end().left == 0
    (end,) = run.told(events.RankExited)
    assert (end.code, end.signal, end.told) == (137, 9, True)
    run.wait_gone()


def test_a_second_order_shortens_the_wait(make: Make) -> None:
    run = make(STUBBORN).start()
    run.wait_for_log("ready")
    run.stop(3600.0)
    run.wait_for(events.Stopping)
    run.stop(0.0)
    run.wait_end()


@pytest.mark.parametrize("how", ["lease removed", "lease over", "directory removed"])
def test_without_a_lease_the_agent_ends_its_ranks(make: Make, how: str) -> None:
    run = make(STUBBORN, failure_grace=0.1).start()
    run.wait_for_log("ready")
    run.wait_for(events.RankStarted)
    if how == "lease removed":
        (run.root / "lease").unlink()
    elif how == "lease over":
        run.renew(-1.0)
    else:
        shutil.rmtree(run.folder / "node")
    run.wait_gone()
    if how != "directory removed":
        (over,) = run.told(events.LeaseOver)
        assert ("removed" in over.reason) == (how == "lease removed")


@pytest.mark.parametrize("of_later_attempt", [False, True])
@pytest.mark.parametrize("how", ["lease over", "a rank fails"])
def test_what_the_launcher_was_to_start_goes_with_the_agent(
    make: Make, tmp_path: Path, how: str, of_later_attempt: bool
) -> None:
    enter = tmp_path / "clusterctl-r/enter"
    run = make(STUBBORN, failure_grace=0.1, enter=str(enter)).start()
    run.wait_for_log("ready")
    (start,) = run.wait_for(events.RankStarted)
    assert enter.exists()
    if of_later_attempt:
        enter.with_name("next").touch()
        enter.with_name("next").rename(enter)
    if how == "lease over":
        run.renew(-1.0)
    else:
        os.kill(start.pid, signal.SIGKILL)
    run.wait_gone()
    assert enter.parent.exists() == of_later_attempt


@pytest.mark.parametrize("nested", [False, True], ids=["engine", "engine-behind-a-runner"])
def test_nothing_survives_a_killed_agent(make: Make, nested: bool) -> None:
    run = make(STUBBORN, ranks=(0, 1), nested=nested).start()
    run.wait_for_log("ready", 0, 1)
    pids = [pid for pid in processes.process_table() if b"setsid" in command(pid)]
    table = processes.process_table()
    below = processes.descendants({run.identity["pid"]}, table)
    hidden = {pid: table[pid].started for pid in pids if pid in below}
    assert len(hidden) >= 2
    os.kill(run.identity["pid"], signal.SIGKILL)
    run.wait_gone()
    wait_until(lambda: not any(processes.is_running(pid, start) for pid, start in hidden.items()))
    assert not (run.root / "job.json").exists()


def command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_a_killed_engine_takes_no_rank_with_it_unheard(make: Make) -> None:
    run = make(saves(1), failure_grace=50.0).start()
    run.wait_for_log("ready")
    (engine,) = run.wait_for(events.EngineStarted)
    run.wait_for(events.RankStarted)
    os.kill(engine.pid, signal.SIGKILL)
    run.wait_end()
    (end,) = run.told(events.RankExited)
    (exited,) = run.told(events.EngineExited)
    assert (exited.code, exited.told, end.code) == (137, False, 0)
    assert "saved after 1" in run.log()


@pytest.mark.parametrize(
    ("said", "sent"),
    [
        (
            "[2026-12-01 05:00:00,123] [INFO] [launch.py:262] Main process received SIGINT, exiting",
            2,
        ),
        ("torch.distributed.elastic.multiprocessing.api.SignalException: Process 29589 got signal: 15", 15),
        ("[2026-12-01 05:00:00,123] [ERROR] [launch.py:259] ['train.py'] exits with return code = 1", None),
    ],
    ids=["deepspeed", "torchrun", "a rank's failure"],
)
def test_what_an_engine_says_of_a_signal_it_was_sent_is_told(make: Make, said: str, sent: int | None) -> None:
    run = make(engine=[PYTHON, "-c", f"import sys; print({said!r}); sys.exit(1)"]).start()
    run.wait_end()
    (exited,) = run.told(events.EngineExited)
    assert (exited.code, exited.sent) == (1, sent)


def test_a_rank_whose_waiter_is_killed_is_reported_by_the_agent(make: Make) -> None:
    run = make(SLEEPS).start()
    run.wait_for_log("ready")
    run.wait_for(events.RankStarted)
    waiter = run.directory.read("start-0.json")["waiter"]
    os.kill(waiter, signal.SIGKILL)
    run.wait_end()
    (end,) = run.told(events.RankExited)
    assert (end.code, end.signal) == (137, 9)


def test_sigterm_to_the_agent_is_a_failure(make: Make) -> None:
    run = make(SLEEPS).start()
    run.wait_for_log("ready")
    os.kill(run.identity["pid"], signal.SIGTERM)
    run.wait_end()
    assert "SIGTERM" in run.told(events.NodeFailed)[0].reason


def test_a_stuck_agent_is_replaced(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make(STUBBORN, ranks=(0, 1)).start()
    run.wait_for_log("ready", 0, 1)
    monkeypatch.setattr(agent_process, "STUCK_TIMEOUT", 0.0)
    os.kill(run.identity["pid"], signal.SIGSTOP)
    assert not run.agent.is_stuck()
    run.agent.expect_stop(0.0)
    wait_until(run.agent.is_stuck)
    assert run.agent.replace() == []
    run.wait_gone()
    assert not (run.root / "job.json").exists()


# Locks


def lock_path(run: NodeRun) -> Path:
    return Path(f"{run.folder}/clusterctl-{host_mark()}-slot-0.lock")


def test_a_busy_slot_names_the_run_that_holds_it(make: Make, tmp_path: Path) -> None:
    first = make(SLEEPS).start()
    first.wait_for_log("ready")
    second = make_in(tmp_path / "second", lock_dir=str(tmp_path))
    second.wait_end()
    (refused,) = second.told(events.Refused)
    assert refused.run == first.job["run"]
    assert refused.reason == f"slot 0 is busy with run {first.job['run']} of ann"
    assert first.agent_lives()


def make_in(folder: Path, **changes: Any) -> NodeRun:
    folder.mkdir(exist_ok=True)
    return NodeRun(folder, "pass", **changes).start()


@pytest.mark.parametrize("end", ["let go", "stopped", pytest.param("kept", marks=pytest.mark.long)])
def test_of_two_runs_that_begin_at_once_the_one_with_the_greater_id_gives_way(
    make: Make, tmp_path: Path, end: str
) -> None:
    younger = make(SLEEPS, run="20260102-000000-aaaa").start()
    younger.wait_for_log("ready")
    older = make_in(tmp_path / "older", run="20260101-000000-aaaa", lock_dir=str(tmp_path))
    wait_until(lambda: older.told(events.Noted) != [])
    assert "waiting for run 20260102-000000-aaaa" in older.told(events.Noted)[0].text
    assert older.told(events.EngineStarted) == []
    if end == "let go":
        younger.stop(0.0)
        older.wait_end()
        assert older.told(events.EngineStarted) and not older.told(events.Refused)
    elif end == "stopped":
        older.stop(0.0)
        older.wait_end()
        assert not older.told(events.EngineStarted) and not older.told(events.Refused)
    else:
        older.wait_end()
        (refused,) = older.told(events.Refused)
        assert refused.run == "20260102-000000-aaaa" and younger.agent_lives()


def test_the_name_of_a_holder_that_is_gone_is_not_told(make: Make, tmp_path: Path) -> None:
    """Its successor has not written its own yet."""
    import fcntl

    run = make(SLEEPS)
    with lock_path(run).open("w") as stream:
        stream.write("run 20250101-000000-dead of ann\n999999999 1\n")
        stream.flush()
        fcntl.flock(stream, fcntl.LOCK_EX)
        run.start()
        time.sleep(0.5)
        assert run.told(events.Refused) == []
        stream.seek(0)
        stream.write(
            f"run 10250101-000000-live of ann\n{os.getpid()} {processes.identity(os.getpid())['started']}\n"
        )
        stream.flush()
        run.wait_end()
    (refused,) = run.told(events.Refused)
    assert refused.run == "10250101-000000-live"


def test_a_pipe_in_place_of_a_lock_blocks_nobody(make: Make) -> None:
    run = make(SLEEPS)
    os.mkfifo(lock_path(run))
    run.start().wait_end()
    (refused,) = run.told(events.Refused)
    assert "not an ordinary file" in refused.reason
    assert refused.run == ""


def test_a_link_in_place_of_a_lock_is_not_followed(make: Make) -> None:
    run = make(SLEEPS)
    lock_path(run).symlink_to(run.folder / "elsewhere")
    run.start().wait_end()
    assert "not an ordinary file" in run.told(events.Refused)[0].reason
    assert not (run.folder / "elsewhere").exists()


def test_what_others_wrote_into_a_lock_cannot_steer_a_terminal(make: Make) -> None:
    import fcntl

    run = make(SLEEPS)
    with lock_path(run).open("wb") as stream:
        stream.write(b"\x1b]0;title\x07\xff" + b"x" * 5000)
        stream.flush()
        fcntl.flock(stream, fcntl.LOCK_EX)
        run.start().wait_end()
    (refused,) = run.told(events.Refused)
    assert refused.reason.startswith("slot 0 is busy with ?]0;title?")
    assert refused.reason.isprintable()
    assert len(refused.reason) < 300


# The machine around it


def test_modules_of_the_users_do_not_become_ours(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    shadow = "raise SystemExit('shadowed')"
    run = make("print('ran')")
    folder = run.folder / "shadow"
    folder.mkdir()
    for name in ("queue", "json", "select", "threading"):
        (folder / f"{name}.py").write_text(shadow)
        (run.cwd / f"{name}.py").write_text(shadow)
    run.job["env"]["PYTHONPATH"] = str(folder)
    # An engine imports what it likes; only the waiter is ours.
    run.job["engine"] = ["/bin/sh", "-c", f'RANK=0 exec {PYTHON} -S -u "$0" r', "{run_dir}/code/rank.py"]
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.chdir(folder)
    run.start().wait_end()
    assert run.log() == "ran\n", run.agent_log()


def test_the_oldest_python_will_do(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    python = other_python()
    if python is None:
        pytest.skip("no Python 3.8 here")
    run = make("raise KeyError('x')", python=python)
    monkeypatch.setattr(sys, "executable", python)
    run.start().wait_end()
    (end,) = run.told(events.RankExited)
    assert end.code == 1, run.agent_log()


def test_an_idle_agent_hardly_wakes_up(make: Make) -> None:
    run = make(SLEEPS, ranks=(0, 1, 2, 3)).start()
    run.wait_for_log("ready", 0, 1, 2, 3)
    run.wait_for(events.RankStarted, 4)
    before = wakeups(run.identity["pid"])
    time.sleep(2.0)
    assert wakeups(run.identity["pid"]) - before < 10


def wakeups(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.split("\nvoluntary_ctxt_switches:")[1].split()[0])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "small", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_on_a_full_disk_everything_is_told_and_the_disk_is_named(small_disk: Path) -> None:
    run = NodeRun(
        small_disk,
        "import os, time\n"
        "if os.environ['RANK'] == '0': time.sleep(600)\n"
        "while not os.path.exists(os.environ['FOLDER'] + '/go'): time.sleep(0.02)\n"
        "try: open(os.environ['FOLDER'] + '/big', 'wb', buffering=0).write(b'x' * (1 << 22))\n"
        "except OSError: pass\n"
        "big = open(os.environ['FOLDER'] + '/big2', 'wb', buffering=0)\n"
        "try:\n"
        "    while True: big.write(b'x')\n"
        "except OSError: os._exit(120)\n",
        ranks=(0, 1),
        failure_grace=0.1,
    )
    try:
        run.start().wait_for(events.RankStarted, 2)  # on a full disk a rank could not even say that
        (small_disk / "go").touch()
        run.wait_end()
    finally:
        run.close()
    assert [each.reason.partition(" (")[0] for each in run.told(events.NodeFailed)] == [
        f"no space left on {small_disk}"
    ]
    assert {each.rank: each.told for each in run.told(events.RankExited)} == {0: True, 1: False}


@pytest.mark.parametrize("raises", [False, True])
def test_a_full_disk_of_the_scripts_is_named_unless_the_script_says_more(
    small_disk: Path, make: Make, raises: bool
) -> None:
    script = "import os\nbig = open('big', 'wb', buffering=0)\ntry:\n    while True: big.write(b'x' * 4096)\n"
    script += "except OSError:\n    if os.environ.get('RAISES'): raise\n    os._exit(5)\n"
    changes = {"env": {"RAISES": "1" if raises else ""}, "cwd": str(small_disk)}
    run = make([PYTHON, "-c", script], **changes).start()
    run.wait_end()
    named = f"no space left on {small_disk} (for {small_disk})"
    assert [each.reason for each in run.told(events.NodeFailed)] == ([] if raises else [named])
    assert [each.text for each in run.told(events.Noted)] == ([named] if raises else [])


def test_a_process_of_another_user_is_left_and_named() -> None:
    if os.getuid() != 0:
        pytest.skip("needs two users")
    with subprocess.Popen(["sleep", "600"]) as sleeper:
        script = (
            "import os, sys; sys.path.insert(0, sys.argv[2])\n"
            "from clusterctl.node.shared import processes\n"
            "os.setuid(65534)\n"
            "processes.STUCK_TIMEOUT = 0.0\n"
            "left = processes.kill_all('none', below=int(sys.argv[1]))\n"
            "print([processes.command_of(pid) for pid in left if 'sleep' in processes.command_of(pid)])"
        )
        root = str(Path(__file__).parents[1])
        argv = [PYTHON, "-I", "-S", "-c", script, str(os.getpid()), root]
        found = subprocess.run(argv, capture_output=True, text=True, check=False)
        sleeper.kill()
    assert "sleep 600" in found.stdout, found.stderr


def test_an_environment_that_cannot_be_read_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    held = threading.Event()
    blocked = os.getpid()

    def slow(path: str, *mode: Any) -> Any:
        if path == f"/proc/{blocked}/environ":
            held.wait()
        return open(path, *mode)  # noqa: PTH123

    monkeypatch.setattr(processes, "open", slow, raising=False)
    monkeypatch.setattr(processes, "READ_TIMEOUT", 0.2)
    monkeypatch.setattr(processes._MarkReader, "waits_in_kernel", lambda _: True)
    with subprocess.Popen(["sleep", "600"], env={"CLUSTERCTL_RUN": "marked/0"}) as sleeper:
        table = {
            pid: stat for pid, stat in processes.process_table().items() if pid in (blocked, sleeper.pid)
        }
        wait_until(lambda: processes._marks(table, set()) == {sleeper.pid: "marked/0"})
        sleeper.kill()
    held.set()


def test_a_slow_look_at_an_environment_misses_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host is busy, or the whole agent stood still meanwhile."""
    looked = 0

    def slow(path: str, *mode: Any) -> Any:
        nonlocal looked
        if path.endswith("/environ"):
            while looked < 3:
                time.sleep(0.01)
        return open(path, *mode)  # noqa: PTH123

    waits: Any = processes._MarkReader.waits_in_kernel

    def count(reader: Any) -> bool:
        nonlocal looked
        looked += 1
        return bool(waits(reader))

    monkeypatch.setattr(processes, "open", slow, raising=False)
    monkeypatch.setattr(processes, "READ_TIMEOUT", 0.02)
    monkeypatch.setattr(processes._MarkReader, "waits_in_kernel", count)
    with subprocess.Popen(["sleep", "600"], env={"CLUSTERCTL_RUN": "marked/0"}) as sleeper:
        table = {pid: stat for pid, stat in processes.process_table().items() if pid == sleeper.pid}
        assert processes._marks(table, set()) == {sleeper.pid: "marked/0"}
        sleeper.kill()


# Judgements

RAISED = {"type": "KeyError", "message": "'x'", "traceback": "", "time": 10.0}


@pytest.mark.parametrize(
    ("what", "ended", "number", "asked", "error", "failed_before", "stopped", "killed", "told"),
    [
        ("raised before it was asked, whatever ended it", 12.0, 15, 10.9, RAISED, True, 10.5, None, False),
        ("raised after it was asked", 12.0, None, 9.9, RAISED, True, None, None, True),
        ("a KILL that nobody here sent", 10.2, 9, None, None, False, 10.0, None, False),
        ("our KILL", 11.1, 9, None, None, False, 10.0, 11.0, True),
        ("the engine's KILL after its patience", 45.0, 9, 10.0, None, False, None, None, True),
        ("TERM after another failed", 10.1, 15, None, None, True, None, None, True),
        ("TERM from nobody we know", 10.0, 15, None, None, False, None, None, False),
        ("a code after the stop", 12.0, None, None, None, False, 10.0, None, True),
    ],
)
def test_whose_doing_an_end_was(
    what: str,
    ended: float,
    number: int | None,
    asked: float | None,
    error: dict[str, Any] | None,
    failed_before: bool,
    stopped: float | None,
    killed: float | None,
    told: bool,
) -> None:
    end = {"signal": number, "asked": asked, "ended": ended}
    assert was_told(end, error, failed_before, stopped, killed) is told, what


def cgroup(tmp_path: Path, kills: int, hits: int) -> None:
    (tmp_path / "cgroup.controllers").touch()
    group = tmp_path / "user/job"
    group.mkdir(parents=True, exist_ok=True)
    (tmp_path / "membership").write_text("0::/user/job\n")
    (group / "memory.events").write_text(f"oom 0\noom_kill {kills}\n")
    (group.parent / "memory.max").write_text("2000000000\n")
    (group.parent / "memory.events.local").write_text(f"oom {hits}\noom_kill 0\n")


def test_the_control_group_that_killed_is_named_once_for_each_kill(tmp_path: Path) -> None:
    cgroup(tmp_path, kills=3, hits=1)
    memory = OutOfMemory(str(tmp_path), str(tmp_path / "membership"))
    assert memory.limit_that_killed(1) == ""
    cgroup(tmp_path, kills=4, hits=2)
    assert memory.limit_that_killed(1) == "the memory limit of control group /user, 2.0 GB"
    assert memory.limit_that_killed(1) == ""
    cgroup(tmp_path, kills=5, hits=2)
    memory.limits_before = memory._limits_hit()
    assert memory.limit_that_killed(1).startswith("the host's memory is used up")


def test_in_version_1_the_kill_is_counted_in_one_group_and_the_limit_in_another(tmp_path: Path) -> None:
    """As recorded on Linux 6.18: a group with a limit of 64 MiB, the process in one without within it."""
    (tmp_path / "membership").write_text("4:memory:/limited/inner\n1:cpu:/\n")
    base = tmp_path / "memory"

    def record(kills: int, failures: int) -> None:
        for name, oom_kill, failcnt, limit in (
            ("limited", 0, failures, 67108864),
            ("limited/inner", kills, 0, 9223372036854771712),
        ):
            group = base / name
            group.mkdir(parents=True, exist_ok=True)
            counters = f"oom_kill_disable 0\nunder_oom 0\noom_kill {oom_kill}\n"
            (group / "memory.oom_control").write_text(counters)
            (group / "memory.failcnt").write_text(f"{failcnt}\n")
            (group / "memory.limit_in_bytes").write_text(f"{limit}\n")

    record(0, 0)
    memory = OutOfMemory(str(tmp_path), str(tmp_path / "membership"), log=None)
    record(1, 144)
    assert memory.limit_that_killed(1) == "the memory limit of control group /limited, 67 MB"
    assert memory.limit_that_killed(2) == ""


def test_in_version_1_a_kernel_that_counts_no_hits_tells_by_the_highest_use(tmp_path: Path) -> None:
    """As seen on Linux 6.18: failcnt stays 0, whatever the limit refuses."""
    (tmp_path / "membership").write_text("4:memory:/limited\n")
    group = tmp_path / "memory" / "limited"
    group.mkdir(parents=True)

    def record(kills: int, most: int) -> None:
        (group / "memory.oom_control").write_text(f"oom_kill {kills}\n")
        (group / "memory.failcnt").write_text("0\n")
        (group / "memory.max_usage_in_bytes").write_text(f"{most}\n")
        (group / "memory.limit_in_bytes").write_text("67108864\n")

    record(0, 1)
    memory = OutOfMemory(str(tmp_path), str(tmp_path / "membership"), log=None)
    record(1, 67108864)
    assert memory.limit_that_killed(1) == "the memory limit of control group /limited, 67 MB"
    again = OutOfMemory(str(tmp_path), str(tmp_path / "membership"), log=None)
    record(2, 67108864)  # it had been full before, perhaps of files that were only cached
    assert (
        again.limit_that_killed(1) == "the memory limit of control group /limited, 67 MB, or the host's own"
    )


def test_the_kernels_log_names_the_process_and_the_group(tmp_path: Path) -> None:
    """Lines of Linux 6.18."""
    lines = (
        "6,9,1,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,"
        "oom_memcg=/realtest,task_memcg=/realtest/in,task=python3,pid=7950,uid=0\n"
        "3,9,2,-;Memory cgroup out of memory: Killed process 7950 (python3) total-vm:221356kB\n"
        "3,9,3,-;Out of memory: Killed process 7951 (python3) total-vm:221356kB\n"
    )
    cgroup(tmp_path, kills=0, hits=0)
    log, kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)  # a record at a time, as /dev/kmsg
    with log, kernel:
        log.setblocking(False)
        for line in lines.splitlines(keepends=True):
            kernel.send(line.encode())
        memory = OutOfMemory(str(tmp_path), str(tmp_path / "membership"), log=log.fileno())
        cgroup(tmp_path, kills=2, hits=0)
        assert memory.limit_that_killed(1) == "", "the kills that were counted are those of the log"
        assert memory.limit_that_killed(7950) == "the memory limit of control group /realtest"
        assert memory.limit_that_killed(7951) == "the host's memory is used up"


def test_without_a_witness_nothing_is_said_of_memory(tmp_path: Path) -> None:
    memory = OutOfMemory(str(tmp_path), str(tmp_path / "none"))
    memory.log = None
    assert memory.limit_that_killed(1) == ""
