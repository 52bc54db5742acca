"""The relay as the controller knows it: real process, real agent, orders and replies through the types."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from clusterctl.ask.bundle import pack
from clusterctl.ask.host_session import MARK, HostSession, listen
from clusterctl.messages import events, orders, relay
from clusterctl.node.run.directory import NodeDirectory
from clusterctl.node.run.forwarding import Forwarder, Window
from clusterctl.node.run.relay import IN_STEP
from clusterctl.node.shared import wire
from clusterctl.node.shared.processes import is_running, kill_all, process_table, run_processes
from clusterctl.run.relay_bundle import RELAY, RELAY_FILES
from tests.local_channel import LocalChannel
from tests.node_run import PYTHON, NodeRun, run_of, sleeping, wait_until, whole_lines

SLEEPS = "import time; print('ready', flush=True); time.sleep(600)"
STUCK, SOON_STUCK = b"STUCK_TIMEOUT = 12.0", b"STUCK_TIMEOUT = 00.2"
BEATS, BEATS_NEVER = b"HEARTBEAT = 1.0", b"HEARTBEAT = 9e5"


class Talk:
    """One session with a relay, in the home directory ``tmp_path``."""

    def __init__(
        self,
        home: Path,
        offsets: dict[str, int] | None = None,
        *,
        attempt: int = 1,
        changed: tuple[bytes, bytes] = (STUCK, SOON_STUCK),
    ) -> None:
        """``changed``: what stands in its program, and in place of that."""
        self.home = home
        self.acknowledges = True
        self.heard: list[relay.Reply] = []
        self.session: HostSession[relay.Reply] = HostSession(LocalChannel(home), relay.replies)
        request = {
            "run": run_of(home),
            "node_rank": 0,
            "attempt": attempt,
            "offsets": offsets or {},
            "lease": 60.0,
        }
        self.listening = listen([self.session], time.monotonic() + 300)
        bundle = pack(RELAY, request, RELAY_FILES)
        assert changed[0] in bundle
        self.session.channel.send(bundle.replace(*changed))

    def say(self, *orders: orders.Order) -> None:
        for order in orders:
            self.session.send(order)

    def until(self, kind: type[Any] | tuple[type[Any], ...], true: Any = lambda message: True) -> Any:
        for _, message in self.listening:
            assert message is not None, self.session.last_words or self.session.noise
            self.heard.append(message)
            if self.acknowledges and isinstance(message, relay.LogPiece):
                self.acknowledge()
            if isinstance(message, kind) and true(message):
                return message
        raise AssertionError((kind, self.heard))

    def hear_until(self, true: Callable[[], object]) -> None:
        while not true():
            self.until(msgspec.Struct)

    def until_event(self, kind: type[Any]) -> Any:
        for message in self.heard:
            if isinstance(message, relay.HostEvent) and isinstance(message.event, kind):
                return message.event
        return self.until(relay.HostEvent, lambda message: isinstance(message.event, kind)).event

    def until_log(self, text: str, name: str = "rank-0.log") -> None:
        self.hear_until(lambda: text in whole_lines(self.log(name)))

    def log(self, name: str = "rank-0.log") -> str:
        pieces = [each for each in self.heard if isinstance(each, relay.LogPiece) and each.name == name]
        return b"".join(each.data for each in pieces).decode()

    def acknowledge(self) -> None:
        pieces = [each for each in self.heard if isinstance(each, relay.LogPiece)]
        self.say(orders.Acknowledge(received=sum(len(each.data) for each in pieces)))

    def offsets(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for each in self.heard:
            if isinstance(each, relay.HostEvent):
                found["events.jsonl"] = each.offset
            elif isinstance(each, relay.LogPiece):
                found[each.name] = each.offset + len(each.data)
        return found

    def close(self) -> None:
        self.session.close()


@pytest.fixture
def talks(tmp_path: Path) -> Iterator[list[Talk]]:
    made: list[Talk] = []
    yield made
    for each in made:
        each.close()
    for part in ("0", "0.attempt-2"):
        kill_all(f"{run_of(tmp_path)}/{part}")


def start(
    talks: list[Talk],
    home: Path,
    script: str,
    *,
    changed: tuple[bytes, bytes] = (STUCK, SOON_STUCK),
    **changes: Any,
) -> Talk:
    """A run as the controller starts it; the job is that of `NodeRun`."""
    job = NodeRun(home, script, **changes).job
    talks.append(Talk(home, changed=changed))
    talks[-1].say(orders.StartAgent(job=msgspec.convert(job, orders.Job)))
    talks[-1].until(relay.Started)
    return talks[-1]


def again(talks: list[Talk], old: Talk) -> Talk:
    """Another session, after the first has broken."""
    old.close()
    talks.append(Talk(old.home, old.offsets()))
    talks[-1].say(orders.Attach())
    return talks[-1]


def run_dir(home: Path) -> Path:
    return home / ".clusterctl/node" / run_of(home) / "0"


def test_samples_come_along_with_a_beat_and_a_beat_with_a_keepalive(
    talks: list[Talk], tmp_path: Path
) -> None:
    talk = start(talks, tmp_path, SLEEPS, changed=(BEATS, BEATS_NEVER))
    talk.until_log("ready")
    samples = run_dir(tmp_path) / "logs/samples.ndjson"
    for text in ("one", "two"):
        with samples.open("a") as stream:
            stream.write(text + "\n")
        time.sleep(2 * IN_STEP)
        talk.say(orders.Keepalive())
        talk.until_log(text, samples.name)
        talk.until((relay.Heartbeat, relay.LogPiece))
        assert isinstance(talk.heard[-1], relay.Heartbeat)


def test_what_may_wait_goes_along_with_the_next(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    wire.emit({"is": "one"}, wait=True)
    assert capsysbinary.readouterr().out == b""
    wire.emit({"is": "two"}, wait=True)
    wire.emit({"is": "three"})
    wire.emit({"is": "four"})
    told = [line.split(b'"')[3] for line in capsysbinary.readouterr().out.splitlines()]
    assert told == [b"one", b"two", b"three", b"four"]


def test_a_new_session_goes_on_where_the_old_one_broke(talks: list[Talk], tmp_path: Path) -> None:
    script = (
        "import os, time; print('first', flush=True)\n"
        "while not os.path.exists(os.environ['FOLDER'] + '/go'): time.sleep(0.02)\n"
        "print('second')\n"
    )
    first = start(talks, tmp_path, script)
    first.until_log("first")
    first.until_event(events.RankStarted)
    second = again(talks, first)
    second.until(relay.CaughtUp)
    (tmp_path / "go").touch()
    complete = second.until(relay.Complete)
    assert "first" in first.log()
    assert "first" not in second.log()
    assert first.log() + second.log() == "first\nsecond\n"
    whole = b"first\nsecond\n"
    mark = relay.Fingerprint(size=len(whole), sha256=hashlib.sha256(whole).hexdigest())
    assert complete.logs["rank-0.log"] == mark
    both = told(first) + told(second)
    assert [type(each) for each in both[-3:]] == [events.RankExited, events.EngineExited, events.Ended]
    assert len(both) == len({each.time for each in both})


def test_what_has_ended_before_a_session_began_is_complete_at_once(talks: list[Talk], tmp_path: Path) -> None:
    first = start(talks, tmp_path, "print('short')")
    first.until(relay.Complete)
    second = again(talks, first)
    second.until(relay.Complete)
    second.say(orders.Forget(enter=""))
    second.until(relay.Forgotten)
    assert not run_dir(tmp_path).parent.exists()
    third = again(talks, second)
    assert third.until(relay.Absent).reason == ""


def test_a_stop_reaches_the_ranks_and_all_is_told(talks: list[Talk], tmp_path: Path) -> None:
    talk = start(talks, tmp_path, SLEEPS)
    talk.until_log("ready")
    talk.say(orders.Stop(grace=30.0, reason="x" * 100_000))
    assert talk.until_event(events.Ended).left == 0
    assert talk.until_event(events.Stopping).reason == "x" * 300
    talk.until(relay.Complete)


def test_stop_and_forget_in_one_burst_leave_nothing(talks: list[Talk], tmp_path: Path) -> None:
    talk = start(talks, tmp_path, SLEEPS, failure_grace=0.1)
    talk.until_log("ready")
    agent = talk.until_event(events.AgentStarted)
    talk.say(orders.Stop(grace=0.1, reason="burst"), orders.Forget(enter=""))
    talk.until(relay.Forgotten)
    wait_until(lambda: not is_running(agent.pid, agent.started))
    assert kill_all(f"{run_of(tmp_path)}/0") == []


def test_a_relay_that_stands_still_is_ended_by_the_next(talks: list[Talk], tmp_path: Path) -> None:
    first = start(talks, tmp_path, SLEEPS)
    first.until_log("ready")
    stopped = json.loads((run_dir(tmp_path) / "relay.json").read_text())
    os.kill(stopped["pid"], signal.SIGSTOP)
    talks.append(Talk(tmp_path, first.offsets()))
    talks[-1].say(orders.Attach())
    talks[-1].until(relay.CaughtUp)
    wait_until(lambda: not is_running(stopped["pid"], stopped["started"]))


def test_what_others_write_among_the_events_is_told_and_the_run_goes_on(
    talks: list[Talk], tmp_path: Path
) -> None:
    talk = start(talks, tmp_path, SLEEPS)
    talk.until_log("ready")
    talk.until_event(events.RankStarted)
    path = run_dir(tmp_path) / "events.jsonl"
    with path.open("r+b") as stream:
        before = stream.read()
        stream.seek(before.rindex(b"\n") + 1)
        stream.write(b"[" * 5000 + b"\n")
    assert talk.until(relay.GarbledEvent).offset == before.rindex(b"\n") + 5002
    talk.say(orders.Stop(grace=0.0, reason="enough"))
    assert talk.until(relay.Complete)


def test_a_killed_agent_is_told_and_swept_for(talks: list[Talk], tmp_path: Path) -> None:
    talk = start(talks, tmp_path, SLEEPS)
    talk.until_log("ready")
    os.kill(talk.until_event(events.AgentStarted).pid, signal.SIGKILL)
    assert talk.until(relay.AgentGone).left == 0
    assert talk.until(relay.Complete).logs["rank-0.log"].size == len("ready\n")
    assert kill_all(f"{run_of(tmp_path)}/0") == []


def test_what_a_killed_agent_s_run_may_have_left_without_a_mark_is_told_and_lives(
    talks: list[Talk], tmp_path: Path
) -> None:
    talk = start(talks, tmp_path, SLEEPS)
    talk.until_log("ready")
    with sleeping(run_dir(tmp_path)) as hidden:
        os.kill(talk.until_event(events.AgentStarted).pid, signal.SIGKILL)
        gone = talk.until(relay.AgentGone)
        assert [(each.pid, each.command) for each in gone.strays] == [(hidden.pid, "sleep 4321")]
        assert hidden.poll() is None


def test_an_agent_that_does_nothing_any_more_is_replaced(talks: list[Talk], tmp_path: Path) -> None:
    talk = start(talks, tmp_path, SLEEPS)
    talk.until_log("ready")
    agent = talk.until_event(events.AgentStarted)
    os.kill(agent.pid, signal.SIGSTOP)
    talk.say(orders.Stop(grace=0.1, reason="it does not hear this"))
    assert talk.until(relay.AgentGone).left == 0
    talk.until(relay.Complete)
    assert not is_running(agent.pid, agent.started)
    assert kill_all(f"{run_of(tmp_path)}/0") == []


def test_a_rebooted_host_says_so(talks: list[Talk], tmp_path: Path) -> None:
    talk = start(talks, tmp_path, SLEEPS)
    agent = talk.until_event(events.AgentStarted)
    talk.until_log("ready")
    directory = NodeDirectory(str(run_dir(tmp_path)))
    directory.overwrite("agent.json", {"pid": agent.pid, "started": agent.started, "boot": "another"})
    assert again(talks, talk).until(relay.Absent).reason == "the host was rebooted"
    directory.overwrite("agent.json", {"pid": agent.pid, "started": agent.started, "boot": agent.boot})
    os.kill(agent.pid, signal.SIGKILL)


def test_another_process_with_the_agents_pid_is_not_the_agent(talks: list[Talk], tmp_path: Path) -> None:
    talk = start(talks, tmp_path, SLEEPS)
    agent = talk.until_event(events.AgentStarted)
    talk.until_log("ready")
    talk.close()
    os.kill(agent.pid, signal.SIGKILL)
    directory = NodeDirectory(str(run_dir(tmp_path)))
    directory.overwrite("agent.json", {"pid": os.getpid(), "started": 1, "boot": agent.boot})
    assert again(talks, talk).until(relay.AgentGone).left == 0


def test_signals_are_handed_to_ranks_that_wait_for_them(talks: list[Talk], tmp_path: Path) -> None:
    script = (
        "import os, signal, time\n"
        "if os.environ['RANK'] == '0':\n"
        "    signal.signal(signal.SIGUSR1, lambda *_: print('checkpoint', flush=True))\n"
        "print('ready', flush=True)\n"
        "while True: time.sleep(600)\n"
    )
    talk = start(talks, tmp_path, script, ranks=(0, 1))
    talk.until_log("ready")
    talk.hear_until(lambda: sum(isinstance(each, events.RankStarted) for each in told(talk)) == 2)
    talk.say(orders.SignalRanks(number=signal.SIGUSR1))
    talk.until_log("checkpoint")
    talk.say(orders.Stop(grace=0.1, reason="enough"))
    talk.until(relay.Complete)
    assert all(each.told for each in told(talk) if isinstance(each, events.RankExited))


def told(talk: Talk) -> list[Any]:
    return [each.event for each in talk.heard if isinstance(each, relay.HostEvent)]


def test_input_reaches_rank_0_and_ends(talks: list[Talk], tmp_path: Path) -> None:
    script = "import os, sys; print(os.environ['RANK'], repr(sys.stdin.read()))"
    talk = start(talks, tmp_path, script, ranks=(0, 1), stdin=True)
    talk.say(orders.Input(data=b"one\n"), orders.Input(data=b"two\n" * 100_000), orders.Input())
    talk.until(relay.Complete)
    assert talk.log("rank-0.log") == "0 " + repr("one\n" + "two\n" * 100_000) + "\n"
    assert talk.log("rank-1.log") == "1 ''\n"
    assert not (run_dir(tmp_path) / "stdin").exists()


def test_a_rank_that_reads_no_input_holds_up_nothing(talks: list[Talk], tmp_path: Path) -> None:
    talk = start(talks, tmp_path, SLEEPS, stdin=True)
    talk.until_log("ready")
    talk.say(*[orders.Input(data=b"x" * 100_000) for _ in range(20)])
    talk.say(orders.Stop(grace=0.1, reason="enough"))
    talk.until(relay.Complete)


def test_logs_wait_for_acknowledgements_and_events_do_not(talks: list[Talk], tmp_path: Path) -> None:
    size = 1_000_000
    script = f"import os; os.write(1, b'x' * {size}); os._exit(3)"
    job = NodeRun(tmp_path, script).job
    talks.append(Talk(tmp_path))
    talk = talks[-1]
    talk.acknowledges = False
    talk.say(orders.StartAgent(job=msgspec.convert(job, orders.Job)))
    talk.until_event(events.Ended)
    talk.until(relay.Heartbeat)
    assert 0 < len(talk.log()) <= Window.FIRST
    talk.acknowledges = True
    talk.acknowledge()
    complete = talk.until(relay.Complete)
    assert len(talk.log()) == complete.logs["rank-0.log"].size == size


# Parts


def test_the_window_grows_while_answers_come_soon_and_shrinks_when_they_are_late() -> None:
    now = [0.0]
    window = Window(clock=lambda: now[0])
    sent = 0
    for _ in range(12):
        while piece := window.piece():
            assert piece <= window.size // 4
            window.sent(piece)
            sent += piece
        now[0] += 0.1
        window.acknowledge(sent)
    assert window.size == Window.LARGEST
    for _ in range(12):
        while piece := window.piece():
            window.sent(piece)
            sent += piece
        now[0] += 2.0
        window.acknowledge(sent)
    assert window.size == Window.SMALLEST
    window.acknowledge(10**12)
    assert window.piece() > 0


def test_only_what_goes_slowly_is_packed(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    now = [0.0]
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/rank-0.log").write_bytes(b"a line that is like the others\n" * 1_000_000)
    forwarder = Forwarder(NodeDirectory(str(tmp_path)), {})
    forwarder.window = Window(clock=lambda: now[0])
    forwarder.look()

    def kinds(seconds: float) -> set[str]:
        """Of what is sent once all of a window has taken that long."""
        found = set()
        for _ in range(2):
            while forwarder.window.piece():
                forwarder.forward()
            found = {each["is"] for each in emitted(capsysbinary)}
            now[0] += seconds
            forwarder.window.acknowledge(10**12)
        return found

    assert kinds(0.5) == {"packed-log"}
    assert kinds(0.001) == {"log"}
    assert kinds(0.5) == {"packed-log"}


def emitted(capsysbinary: pytest.CaptureFixture[bytes]) -> list[dict[str, Any]]:
    lines = capsysbinary.readouterr().out.splitlines()
    assert all(line.startswith(MARK) for line in lines)
    return [json.loads(line[len(MARK) :]) for line in lines]


def test_a_removed_directory_is_forwarded_to_its_end(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    (tmp_path / "run/logs").mkdir(parents=True)
    log, events_file = tmp_path / "run/logs/rank-0.log", tmp_path / "run/events.jsonl"
    log.write_text("one\n")
    events_file.write_text('{"event": "agent"}\n' + " " * 100)
    forwarder = Forwarder(NodeDirectory(str(tmp_path / "run")), {})
    forwarder.look()
    forwarder.forward()
    with log.open("a") as more, events_file.open("r+") as last:
        log.unlink()
        events_file.unlink()
        more.write("two\n")
        more.flush()
        last.seek(19)
        last.write('{"event": "end"}\n')
    forwarder.look()
    forwarder.forward()
    sent = emitted(capsysbinary)
    assert forwarder.ended
    assert [each.get("data") for each in sent if each["is"] == "log"] == [
        base64.b64encode(b"one\n").decode(),
        base64.b64encode(b"two\n").decode(),
    ]
    assert [each["event"]["event"] for each in sent if each["is"] == "event"] == ["agent", "end"]
    assert forwarder.fingerprints(lambda: None) == {
        "rank-0.log": {
            "size": 8, "sha256": hashlib.sha256(b"one\ntwo\n").hexdigest(), "head": 0, "resume": 0,
        }
    }  # fmt: skip


def test_an_idle_relay_hardly_wakes_up(talks: list[Talk], tmp_path: Path) -> None:
    talk = start(talks, tmp_path, SLEEPS)
    talk.until_log("ready")
    talk.until_event(events.RankStarted)
    shell = cast(Any, talk.session.channel)._process.pid
    (pid,) = [pid for pid, stat in process_table().items() if stat.parent == shell]
    status = Path(f"/proc/{pid}/status")
    before = switches(status)
    time.sleep(2.0)
    assert switches(status) - before < 20
    talk.say(orders.Stop(grace=0.0, reason="enough"))
    talk.until(relay.Complete)


def switches(status: Path) -> int:
    return int(status.read_text().split("\nvoluntary_ctxt_switches:")[1].split()[0])


def test_the_job_on_disk_holds_no_environment(talks: list[Talk], tmp_path: Path) -> None:
    talk = start(talks, tmp_path, SLEEPS, env={"TOKEN": "sesame-open"}, command=[PYTHON, "-c", SLEEPS])
    talk.until_log("ready")
    assert "env" not in json.loads((run_dir(tmp_path) / "job.json").read_text())
    talk.say(orders.Stop(grace=0.0, reason="enough"))
    talk.until(relay.Complete)


def test_compiled_kernels_go_to_a_place_that_is_private(talks: list[Talk], tmp_path: Path) -> None:
    """What another user may have made there first is not touched, and that is said."""
    script = "import os; print(os.environ['TRITON_CACHE_DIR'])"
    root = tmp_path / "cache"
    root.mkdir()
    root.chmod(0o777)
    changes: dict[str, Any] = {"env": {"TRITON_CACHE_DIR": f"{root}/triton"}, "caches": str(root)}
    talk = start(talks, tmp_path, script, **changes)
    assert "is open to other users" in talk.until_event(events.Noted).text
    talk.until(relay.Complete)
    used = Path(talk.log().strip())
    assert used.is_dir() and used.parent.stat().st_mode & 0o777 == 0o700
    assert not used.is_relative_to(root) and not list(root.iterdir())
    talk.say(orders.Forget(enter=""))
    talk.until(relay.Forgotten)
    assert not used.parent.exists()


def test_another_attempt_ends_what_lives_of_the_one_before_and_works_in_its_copy(
    talks: list[Talk], tmp_path: Path
) -> None:
    """As on a host that was given up for lost, whose agent is still waiting for its lease."""
    script = "import os, time; print(os.getcwd(), flush=True); open('kept', 'a').write('x'); time.sleep(600)"
    snapshot = tmp_path / ".clusterctl/node/snapshots/abc"
    snapshot.mkdir(parents=True)
    (snapshot / "code.py").write_text("pass")
    first = start(talks, tmp_path, script, cwd=None, digest="abc")
    first.until_log("work")
    old = first.until_event(events.AgentStarted)
    first.close()
    talks.append(Talk(tmp_path, attempt=2))
    job = NodeRun(tmp_path, script, cwd=None, digest="abc").job
    talks[-1].say(orders.StartAgent(job=msgspec.convert(job, orders.Job)))
    talks[-1].until(relay.Started)
    assert not is_running(old.pid, old.started)
    talks[-1].until_log("work", "rank-0.attempt-2.log")
    assert talks[-1].log("rank-0.attempt-2.log") == first.log()
    assert run_processes(f"{run_of(tmp_path)}/0") == []
    assert (run_dir(tmp_path) / "work/kept").read_text() == "xx"
    assert (run_dir(tmp_path) / "logs/rank-0.log").read_text() == first.log()
    talks[-1].say(orders.Stop(grace=0.0, reason="over"))
    talks[-1].until(relay.Complete)
    talks[-1].say(orders.Forget(enter="", last=False))
    talks[-1].until(relay.Forgotten)
    left = {each.name for each in run_dir(tmp_path).parent.iterdir()}
    assert left == {"0"} and (run_dir(tmp_path) / "work/code.py").exists()


def test_what_a_script_puts_among_the_logs_holds_up_nobody(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    logs = tmp_path / "run" / "logs"
    logs.mkdir(parents=True)
    os.mkfifo(logs / "metrics-0.jsonl")
    (logs / "metrics-1.jsonl").symlink_to("/dev/zero")
    (logs / "metrics-2.jsonl").write_text('{"step": 1}\n')
    (logs / "metrics-2.jsonl.partial").write_text("x")
    (logs / "rank-0.log").write_text("one\n")
    (logs / "agent.log").mkdir()
    forwarder = Forwarder(NodeDirectory(str(tmp_path / "run")), {})
    forwarder.look()
    forwarder.forward()
    sent = emitted(capsysbinary)
    assert [each["name"] for each in sent] == ["metrics-2.jsonl", "rank-0.log"]
    assert forwarder.is_level()
    assert set(forwarder.fingerprints(lambda: None)) == {"metrics-2.jsonl", "rank-0.log"}
    for each in sent:
        assert isinstance(relay.replies.decode(json.dumps(each).encode()), relay.LogPiece)
