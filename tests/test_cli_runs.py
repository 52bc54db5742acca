"""`runs`, `status`, `stop` and `logs` on run directories that no host has to stand behind."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from clusterctl.cli import screen, stop
from clusterctl.cli.app import app
from clusterctl.plan.model import Notify
from clusterctl.settings import RUN as RUN_DEFAULTS
from clusterctl.store.claims import Claim
from clusterctl.store.outcome import Outcome
from clusterctl.store.runs import RunDirectory
from tests.on_a_screen import OnAScreen
from tests.test_run_machine import plan as small_plan

RUN = "20260101-120000-aaaa"
PATIENCE = 240
GARBAGE = bytes(range(256)) + "ünï 🚀\r\n".encode() + b"\xff\xfe 10%\r 50%\r100%\r\nlast, no end"


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CLUSTERCTL_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


def clusterctl(*words: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "clusterctl", *words], capture_output=True, timeout=PATIENCE, check=False
    )


def create(run: str = RUN) -> RunDirectory:
    return RunDirectory.create(msgspec.structs.replace(small_plan(2), run=run))


def ended(directory: RunDirectory, **more: object) -> None:
    outcome = Outcome(
        run=directory.run, status="succeeded", exit_code=0, left_behind={"h0": 0, "h1": 0}, seconds=3.0
    )
    directory.write("outcome.json", msgspec.structs.replace(outcome, **more))


def test_no_runs_yet() -> None:
    listed = clusterctl("runs")
    assert (listed.returncode, b"clusterctl init HOST..." in listed.stdout) == (0, True)
    assert json.loads(clusterctl("runs", "--json").stdout) == []
    for verb in ("status", "logs", "stop"):
        found = clusterctl(verb)
        assert (found.returncode, b"no runs" in found.stderr, b"hint:" in found.stderr) == (64, True, True)


def test_a_damaged_run_does_not_hide_the_others() -> None:
    ended(create("20260101-120000-good"))
    (create("20260101-130000-torn").path / "plan.json").write_text("{")
    listed = clusterctl("runs")
    assert listed.returncode == 0
    assert b"20260101-120000-good" in listed.stdout
    assert b"warning:" in listed.stderr
    assert b"20260101-130000-torn" in listed.stderr.replace(b"\n", b"")
    status = clusterctl("status")
    assert (status.returncode, b"Traceback" in status.stderr) == (125, False)


def test_the_list_can_be_narrowed() -> None:
    runner = CliRunner()

    def out(*words: str) -> str:
        found = runner.invoke(app, ["runs", *words])
        assert found.exit_code == 0, found.output
        return found.stdout

    for hour in range(1, 24):
        directory = create(f"20260101-{hour:02}0000-aaaa")
        ended(directory, **({"status": "failed"} if hour in (3, 22) else {}))
        if hour < 20:
            os.utime(directory.path / "plan.json", (0, time.time() - 3 * 86400))
    whole = out().splitlines()
    assert whole[0] == "… 3 older: --all"
    assert [line[:20] for line in whole if line.startswith("2026")] == [
        f"20260101-{hour:02}0000-aaaa" for hour in range(4, 24)
    ]

    def listed(*words: str) -> list[int]:
        return [int(line[9:11]) for line in out(*words).splitlines() if line.startswith("2026")]

    assert listed("--all") == list(range(1, 24))
    assert listed("--limit", "2") == [22, 23]
    assert listed("--status", "failed") == [3, 22]
    assert listed("--since", "2d") == [20, 21, 22, 23]
    assert listed("--since", "2d", "--status", "failed", "--status", "running") == [22]
    assert "no such runs" in out("--status", "lost")
    assert len(json.loads(out("--json"))) == 23
    assert len(json.loads(out("--json", "--limit", "4"))) == 4
    wrong = clusterctl("runs", "--status", "broken")
    assert (wrong.returncode, b"one of running, interrupted, succeeded" in wrong.stderr) == (64, True)


def test_status_json() -> None:
    directory = create()
    directory.append_event({"event": "started", "host": "h1", "cwd": "/w"})
    told = json.loads(clusterctl("status", "--json").stdout)
    assert told["run"]["status"] == "interrupted"
    assert [(host["host"], host["outputs"]) for host in told["hosts"]] == [("h0", ""), ("h1", "/w")]
    assert told["logs"] == str(directory.logs)
    assert told["outcome"] is None


def test_stop_of_a_run_that_is_over() -> None:
    ended(create())
    found = clusterctl("stop")
    assert (found.returncode, b"over already: succeeded" in found.stdout) == (0, True)


def test_ctrl_c_leaves_a_stop_that_goes_on() -> None:
    directory = create()
    directory.claim()
    stopping = subprocess.Popen(
        [sys.executable, "-m", "clusterctl", "stop", RUN], stderr=subprocess.PIPE, stdout=subprocess.PIPE
    )
    until = time.monotonic() + PATIENCE
    while directory.stop_asked() is None:
        assert time.monotonic() < until
        time.sleep(0.05)
    assert directory.stop_asked() is False
    assert stopping.stderr is not None
    assert b"30 s to save" in stopping.stderr.readline()
    stopping.send_signal(signal.SIGINT)
    _, err = stopping.communicate(timeout=PATIENCE)
    assert (stopping.returncode, b"clusterctl status" in err, b"Traceback" in err) == (130, True, False)
    assert directory.stop_asked() is False


@pytest.mark.parametrize(("left", "code"), [({"h0": 0, "h1": 0}, 0), ({"h0": 0, "h1": 1}, 125), ({}, 125)])
def test_stop_waits_for_the_controller_and_tells_what_it_proved(left: dict[str, int], code: int) -> None:
    directory = create()
    directory.claim()
    stopping = subprocess.Popen(
        [sys.executable, "-m", "clusterctl", "stop", RUN], stderr=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    until = time.monotonic() + PATIENCE
    while directory.stop_asked() is None:
        assert time.monotonic() < until
        time.sleep(0.05)
    ended(directory, status="stopped", exit_code=123, left_behind=left)
    out, _ = stopping.communicate(timeout=PATIENCE)
    assert (stopping.returncode, b"stopped" in out) == (code, True)


def with_logs(over: bool = True) -> RunDirectory:
    directory = create()
    directory.append_log("h0", "rank-0.log", 0, GARBAGE)
    directory.append_log("h0", "agent.log", 0, b"torchrun talks\n")
    directory.append_log("h1", "rank-1.log", 0, b"one\ntwo\nthree\n")
    (directory.logs / "deepspeed.log").write_bytes(b"pdsh talks\n")
    if over:
        ended(directory)
    return directory


def test_logs_of_anything_a_script_may_print() -> None:
    with_logs()
    found = clusterctl("logs")
    assert (found.returncode, found.stderr) == (0, b"")
    lines = found.stdout.split(b"\n")
    bar = " │ ".encode()
    assert lines[-5:] == [
        *(b"h1 1      " + bar + text for text in (b"one", b"two", b"three")),
        b"h0 0      " + bar + b"last, no end",
        b"",
    ]
    assert b"h0 0      " + bar + b"100%" in lines, "a bar shows its last state"
    assert b"talks" not in found.stdout


def test_one_rank_is_byte_exact() -> None:
    with_logs()
    assert clusterctl("logs", "--rank", "0").stdout == GARBAGE
    assert clusterctl("logs", "--rank", "1", "--tail", "2").stdout == b"two\nthree\n"
    assert clusterctl("logs", "--rank", "0", "--tail", "1").stdout == b"last, no end"
    assert clusterctl("logs", "--rank", "0", "--tail", "2").stdout == GARBAGE[GARBAGE.rindex(b"\xff\xfe") :]
    assert clusterctl("logs", "--rank", "1", "--tail", "0").stdout == b""
    assert clusterctl("logs", "--rank", "1", "--tail", "99").stdout == b"one\ntwo\nthree\n"


def test_the_tail_of_a_log_larger_than_a_block() -> None:
    directory = with_logs()
    lines = [b"%d " % number + b"x" * 997 + b"\n" for number in range(3000)]
    directory.append_log("h1", "rank-1.log", 0, b"".join(lines))
    assert clusterctl("logs", "--rank", "1", "--tail", "2500").stdout == b"".join(lines[-2500:])
    assert clusterctl("logs", "--rank", "1").stdout == b"".join(lines)


def test_what_the_engines_said() -> None:
    with_logs()
    out = clusterctl("logs", "--agent").stdout.decode(errors="replace")
    assert "deepspeed  │ pdsh talks" in out
    assert "h0 engine  │ torchrun talks" in out
    assert "h0 engine" not in clusterctl("logs", "--agent", "--host", "h1").stdout.decode()


def test_a_reader_that_leaves_is_no_error() -> None:
    directory = with_logs()
    directory.append_log("h1", "rank-1.log", 0, b"line\n" * 200_000)
    reading = subprocess.Popen(
        [sys.executable, "-m", "clusterctl", "logs"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert reading.stdout is not None
    reading.stdout.readline()
    reading.stdout.close()
    assert reading.stderr is not None
    assert (reading.stderr.read(), reading.wait(PATIENCE)) == (b"", 0)


def test_a_run_that_printed_nothing_says_so() -> None:
    ended(create(), status="error", exit_code=125)
    found = clusterctl("logs")
    assert (found.returncode, found.stdout) == (0, b"")
    assert b"nothing was printed" in found.stderr


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--host", "h9"], b"its hosts: h[0-1]"),
        (["--rank", "2"], b"its ranks are 0 to 1"),
        (["--rank", "-1"], b"its ranks are 0 to 1"),
        (["--rank", "1", "--host", "h0"], b"it ran on h1"),
        (["2099"], b"no run `2099`"),
    ],
)
def test_logs_of_what_there_is_not(words: list[str], expected: bytes) -> None:
    with_logs()
    found = clusterctl("logs", *words)
    assert (found.returncode, expected in found.stderr, found.stdout) == (64, True, b"")


def test_follow_goes_on_until_the_outcome() -> None:
    directory = with_logs(over=False)
    directory.claim()
    following = subprocess.Popen(
        [sys.executable, "-m", "clusterctl", "logs", "-f", "--rank", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert following.stdout is not None
    assert [following.stdout.readline() for _ in range(3)] == [b"one\n", b"two\n", b"three\n"]
    directory.append_log("h1", "rank-1.log", 14, b"four\nfi")
    assert following.stdout.readline() == b"four\n"
    directory.append_log("h1", "rank-1.log", 21, b"ve\n")
    assert following.stdout.readline() == b"five\n"
    directory.append_log("h1", "rank-1.log", 24, b"the end")
    ended(directory)
    out, err = following.communicate(timeout=PATIENCE)
    assert (out, following.returncode) == (b"the end", 0)
    assert b"succeeded" in err


def test_follow_ends_when_the_controller_has_died() -> None:
    with_logs(over=False)
    found = clusterctl("logs", "-f", "--rank", "1")
    assert (found.returncode, found.stdout) == (0, b"one\ntwo\nthree\n")
    assert b"its controller died" in found.stderr


def test_ctrl_c_leaves_what_was_followed() -> None:
    directory = with_logs(over=False)
    directory.claim()
    following = subprocess.Popen(
        [sys.executable, "-m", "clusterctl", "logs", "-f"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert following.stdout is not None
    assert any(b"three" in following.stdout.readline() for _ in range(99))
    os.kill(following.pid, signal.SIGINT)
    out, err = following.communicate(timeout=PATIENCE)
    assert following.returncode == 130
    assert (b"last, no end" in out, err) == (True, b""), "a line without its end is not lost"


def supervisor(directory: RunDirectory, body: str, verb: str = "launch") -> subprocess.Popen[bytes]:
    """A process that supervises the run, as far as anybody can tell, and then does ``body``."""
    script = (
        "import os, signal, sys, time; from pathlib import Path\n"
        "from clusterctl.store.outcome import Outcome; from clusterctl.store.runs import RunDirectory\n"
        f"run = RunDirectory(Path(sys.argv[1])); run.claim({verb!r}); print('claimed', flush=True)\n"
        "def end():\n"
        "    while run.stop_asked() is None: time.sleep(0.05)\n"
        "    run.write('outcome.json', Outcome(run=run.run, status='stopped', exit_code=123,\n"
        "              left_behind={'h0': 0, 'h1': 0}))\n" + body
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(directory.path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"claimed\n"
    return process


def test_stop_wakes_a_launch_that_was_suspended() -> None:
    process = supervisor(create(), "os.kill(os.getpid(), signal.SIGSTOP); end()")
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
    found = clusterctl("stop")
    assert (found.returncode, b"stopped" in found.stdout) == (0, True), found.stderr
    assert f"launch (process {process.pid}) was suspended".encode() in found.stderr.replace(b"\n", b" ")
    process.wait(60)


def test_a_second_stop_waits_for_the_first() -> None:
    process = supervisor(create(), "end()", verb="stop")
    found = clusterctl("stop")
    assert (found.returncode, b"stopped" in found.stdout) == (0, True), found.stderr
    assert b"is being stopped already" in found.stderr.replace(b"\n", b" ")
    assert str(process.pid).encode() in found.stderr
    process.wait(60)


def test_a_controller_that_gives_no_sign_is_not_waited_for_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    directory = create()
    process = supervisor(directory, "time.sleep(600)")
    taken: list[Claim | None] = []

    def take_over(directory: RunDirectory, stuck: Claim | None, *, now: bool) -> Outcome:
        taken.append(stuck)
        ended(directory, status="stopped", exit_code=123)
        found = directory.outcome()
        assert found is not None
        return found

    monkeypatch.setattr(stop, "_take_over", take_over)
    monkeypatch.setattr(
        "clusterctl.settings.RUN",
        dataclasses.replace(RUN_DEFAULTS, stop_grace=0.1, confirm_timeout=0.1, log_timeout=0.1),
    )
    assert stop.command(directory.run) == 0
    assert [claim.pid for claim in taken if claim] == [process.pid]
    claim = directory.supervisor()
    assert claim is not None
    assert (claim.pid, claim.verb) == (os.getpid(), "stop"), "nobody else takes over at the same time"
    process.kill()
    process.wait()


def test_one_that_stands_still_although_it_was_woken_is_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    directory = create()
    process = supervisor(directory, "while True: os.kill(os.getpid(), signal.SIGSTOP)")
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
    taken: list[Claim | None] = []

    def take_over(directory: RunDirectory, stuck: Claim | None, *, now: bool) -> Outcome:
        taken.append(stuck)
        return Outcome(run=RUN, status="stopped", exit_code=123, left_behind={"h0": 0, "h1": None})

    monkeypatch.setattr(stop, "_take_over", take_over)
    monkeypatch.setattr(stop, "_STILL", 0.3)
    assert stop.command(directory.run) == 125
    assert [claim.pid for claim in taken if claim] == [process.pid]
    process.kill()
    process.wait()


LOST = """
import signal, sys, weakref
from clusterctl.cli import interrupts
signal.signal(signal.SIGINT, signal.default_int_handler)
interrupts.Interrupts().install()
class Thing: pass
thing = Thing()
seen = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGINT))
del thing  # what is raised in there goes nowhere
print(interrupts.pressed(), flush=True)
"""


def test_an_interrupt_that_python_has_lost_is_known() -> None:
    found = subprocess.run([sys.executable, "-c", LOST], capture_output=True, text=True, check=False)
    assert (found.stdout, "Exception ignored" in found.stderr) == ("True\n", True)


@pytest.mark.parametrize("words", [("attach", RUN), ("logs", "-f", RUN)])
def test_who_looks_on_hears_the_bell_at_the_end(words: tuple[str, ...]) -> None:
    directory = RunDirectory.create(msgspec.structs.replace(small_plan(2), run=RUN, notify=("bell",)))
    log = directory.host_logs("h0") / "rank-0.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("step 1\n")
    ended(directory)
    with OnAScreen(words, columns=80) as seen:
        assert seen.end() == 0
        assert "step 1" in "\n".join(seen.display)
        assert seen.screen.bells == 1


@pytest.mark.parametrize(
    ("notify", "terminal", "told"),
    [(("bell",), True, "\a"), (("bell",), False, ""), (("desktop",), True, ""), ((), True, "")],
)
def test_the_bell_is_for_a_terminal_of_who_wants_it(
    notify: tuple[Notify, ...],
    terminal: bool,
    told: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    screen.ring(msgspec.structs.replace(small_plan(1), notify=notify))
    assert capsys.readouterr() == ("", told)
