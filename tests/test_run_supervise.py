"""Runs from start to end on hosts played by the test: the table of docs/launch.md, row by row."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from clusterctl.messages import events, orders, relay
from clusterctl.plan.model import OnDisconnect
from clusterctl.run.display import Display
from clusterctl.run.launcher import DeepSpeedLauncher
from clusterctl.run.leaving import LeftAlone
from clusterctl.run.recorder import Recorder, Stored
from clusterctl.run.supervise import Supervisor
from clusterctl.settings import RUN
from clusterctl.store import claims, files
from clusterctl.store.outcome import Outcome
from clusterctl.store.runs import RunDirectory
from tests.fake_hosts import FakeChannel, FakeHost, FakeTransport
from tests.test_run_machine import plan

# What is waited for is what these tests are about, not for how long.
QUICK = dataclasses.replace(
    RUN, stop_grace=0.1, failure_grace=0.05, confirm_timeout=0.3, log_timeout=0.6, heartbeat_timeout=0.6
)


class Seen(Display):
    def __init__(self) -> None:
        self.said: list[str] = []
        self.shown = b""
        self.awaited: list[str] = []
        self.on_say: Callable[[str], None] = lambda text: None
        self.on_up: Callable[[], None] = lambda: None

    def up(self) -> None:
        self.on_up()

    def say(self, text: str) -> None:
        self.said.append(text)
        self.on_say(text)

    def output(self, host: str, name: str, data: bytes) -> None:
        self.shown += data

    def awaiting(self, text: str) -> None:
        self.awaited.append(text)


class Stage:
    """A run of one rank on each of some hosts."""

    def __init__(
        self,
        hosts: int = 2,
        *,
        time_limit: float | None = None,
        on_disconnect: OnDisconnect = "stop",
        **more: Any,
    ) -> None:
        self.hosts = [FakeHost(f"h{rank}", rank) for rank in range(hosts)]
        self.transport = FakeTransport(*self.hosts)
        self.display = Seen()
        self.plan = plan(hosts, time_limit=time_limit, on_disconnect=on_disconnect)
        self.directory = RunDirectory.create(self.plan)
        more = {"defaults": QUICK, **more}
        self.supervisor = Supervisor(
            self.plan,
            None,
            self.transport,
            self.directory,
            clock_offsets={},
            owner="ann",
            display=self.display,
            **more,
        )

    def run(self) -> Outcome:
        """Within a minute, whatever happens."""
        found: list[Outcome | BaseException] = []

        def work() -> None:
            try:
                found.append(self.supervisor.run())
            except BaseException as error:  # noqa: BLE001
                found.append(error)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(60)
        assert found, "the run did not come back"
        (outcome,) = found
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def ends(self, node: int, code: int = 0) -> Callable[[FakeChannel, Any], None]:
        """A start after which the rank ends by itself."""
        host = self.hosts[node]

        def start(channel: FakeChannel, _: Any) -> None:
            host.start(channel)
            host.end(channel, code)

        return start

    def after_start(self, node: int, then: Callable[[FakeChannel], None]) -> None:
        host = self.hosts[node]

        def start(channel: FakeChannel, _: Any) -> None:
            host.start(channel)
            then(channel)

        host.on[orders.StartAgent] = start

    def ordered(self, node: int, kind: type[orders.Order]) -> list[Any]:
        return [order for order in self.hosts[node].orders if isinstance(order, kind)]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CLUSTERCTL_HOME", str(tmp_path))
    return tmp_path


def test_all_ranks_end_well_and_every_host_forgets_the_run() -> None:
    stage = Stage(2)
    for node, host in enumerate(stage.hosts):
        host.on[orders.StartAgent] = stage.ends(node)
    outcome = stage.run()
    assert (outcome.status, outcome.left_behind) == ("succeeded", {"h0": 0, "h1": 0})
    assert outcome.incomplete_logs == ()
    assert stage.directory.outcome() == outcome
    assert all(stage.ordered(node, orders.Forget) for node in (0, 1))
    assert "2 of 2 ranks up, importing" in stage.display.awaited
    lines = [json.loads(line) for line in (stage.directory.path / "events.jsonl").read_text().splitlines()]
    (exited,) = [line for line in lines if line["event"] == "rank-exit" and line["host"] == "h1"]
    assert (exited["node_rank"], exited["code"], exited["offset"]) == (1, 0, 200)


def end_once_acknowledged(host: FakeHost, size: int) -> None:
    """Its rank ends well when so many bytes of its logs are stored."""
    host.on[orders.Acknowledge] = lambda channel, order: (
        host.end(channel, 0) if order.received == size else None
    )


def test_logs_arrive_whole_and_are_acknowledged() -> None:
    stage = Stage(1)

    def prints(channel: FakeChannel) -> None:
        stage.hosts[0].print(channel, b"one\n")
        stage.hosts[0].print(channel, b"two\n")

    stage.after_start(0, prints)
    end_once_acknowledged(stage.hosts[0], 8)
    outcome = stage.run()
    assert (outcome.status, outcome.incomplete_logs) == ("succeeded", ())
    assert (stage.directory.logs / "h0" / "rank-0.log").read_bytes() == stage.display.shown == b"one\ntwo\n"


def test_what_was_stored_of_a_session_is_no_news_in_the_next_one() -> None:
    replies = Stage(1).supervisor._replies
    replies.stored(Stored(node=0, session=0, size=7))
    replies.new_session(0)
    assert replies.unacknowledged() == []
    replies.stored(Stored(node=0, session=0, size=7))
    assert replies.unacknowledged() == []
    replies.stored(Stored(node=0, session=1, size=3))
    assert replies.unacknowledged() == [(0, 3)]


def test_a_failed_rank_stops_all_others() -> None:
    stage = Stage(2)
    stage.hosts[1].on[orders.StartAgent] = stage.ends(1, 7)
    outcome = stage.run()
    assert (outcome.status, outcome.exit_code) == ("failed", 7)
    assert [order.grace for order in stage.ordered(0, orders.Stop)] == [QUICK.failure_grace]


def test_a_host_that_beats_but_never_ends_is_named_and_left() -> None:
    """Its agent is stopped by SIGSTOP, or a rank sits in D state."""
    stage = Stage(2)
    stage.hosts[0].on[orders.Stop] = lambda channel, _: channel.say(relay.Heartbeat(time=1.0))
    stage.after_start(0, lambda _: stage.supervisor.interrupt())
    outcome = stage.run()
    assert (outcome.status, outcome.exit_code) == ("stopped", 123)
    assert outcome.left_behind == {"h0": None, "h1": 0}
    assert [text for text in stage.display.said if "not confirmed on h0" in text]


def test_a_host_that_never_ends_holds_no_success_back_either() -> None:
    stage = Stage(1)
    host = stage.hosts[0]
    host.on[orders.Stop] = lambda channel, order: None

    def exits(channel: FakeChannel) -> None:
        exited = events.RankExited(
            time=2.0, rank=0, code=0, signal=None, started=1.0, ended=2.0, peak_memory=1, told=False
        )
        channel.say(host.event(exited))

    stage.after_start(0, exits)
    outcome = stage.run()
    assert (outcome.status, outcome.left_behind) == ("succeeded", {"h0": None})
    assert [order.grace for order in stage.ordered(0, orders.Stop)] == [0.0]


def test_a_login_that_hangs_after_the_start_and_a_relay_that_dies() -> None:
    """Every new session is opened, prints its banner, and says nothing more."""
    stage = Stage(2)
    stage.after_start(0, lambda channel: channel.hang_up())
    for kind in (orders.Attach, orders.Stop):
        del stage.hosts[0].on[kind]

    def opened(channel: FakeChannel) -> None:
        if stage.hosts[0].opened > 1:
            channel.say_bytes(b"Welcome to h0\n")
        if stage.hosts[0].opened == 3:
            stage.supervisor.interrupt()
            stage.supervisor.interrupt()

    stage.hosts[0].on_open = opened
    outcome = stage.run()
    assert (outcome.status, outcome.left_behind) == ("stopped", {"h0": None, "h1": 0})
    assert not [text for text in stage.display.said if "h0: connected again" in text]


def test_a_broken_link_is_mended_and_nothing_is_shown_twice() -> None:
    stage = Stage(1)
    host = stage.hosts[0]

    def breaks(channel: FakeChannel) -> None:
        host.print(channel, b"one\n")
        channel.hang_up()

    def again(channel: FakeChannel, _: Any) -> None:
        channel.say(relay.LogPiece(name="rank-0.log", offset=0, data=b"one\n"))
        host.print(channel, b"two\n")
        host.end(channel, 0)

    stage.after_start(0, breaks)
    host.on[orders.Attach] = again
    outcome = stage.run()
    assert (outcome.status, outcome.incomplete_logs) == ("succeeded", ())
    assert stage.display.shown == b"one\ntwo\n"
    assert "h0: connected again, nothing was lost" in stage.display.said


def test_a_host_that_cannot_start_stops_those_that_did() -> None:
    stage = Stage(2)
    failed = relay.Failed(what="start", reason="No space left on device")
    stage.hosts[1].on[orders.StartAgent] = lambda channel, _: channel.say(failed)
    outcome = stage.run()
    assert outcome.exit_code == 125
    assert outcome.cause is not None
    assert outcome.cause.message == "h1: cannot start there: No space left on device"
    assert outcome.left_behind == {"h0": 0, "h1": 0}
    assert stage.ordered(0, orders.Stop)


def test_a_host_that_cannot_be_reached_starts_nothing() -> None:
    stage = Stage(2)

    def refuse(channel: FakeChannel) -> None:
        raise ConnectionRefusedError("refused")

    stage.hosts[1].on_open = refuse
    outcome = stage.run()
    assert outcome.exit_code == 125
    assert not stage.ordered(0, orders.StartAgent)


@pytest.mark.parametrize(
    ("number", "what"),
    [
        (signal.SIGINT, "Ctrl-C"),
        (signal.SIGTERM, "SIGTERM"),
        (signal.SIGHUP, "SIGHUP: its terminal was closed"),
    ],
)
def test_an_interrupt_is_called_what_it_is(number: int, what: str) -> None:
    stage = Stage(1)
    stage.after_start(0, lambda _: stage.supervisor.interrupt(number))
    outcome = stage.run()
    assert outcome.cause is not None
    assert outcome.cause.message == f"stopped by the operator ({what})"
    assert f"({what}): 0.1 s to save; again = now" in stage.display.said[0]


def test_an_interrupt_before_the_start_starts_nothing() -> None:
    stage = Stage(2)
    stage.supervisor.interrupt()
    outcome = stage.run()
    assert (outcome.status, outcome.exit_code) == ("stopped", 123)
    assert not stage.ordered(0, orders.StartAgent)


def test_stop_from_another_terminal() -> None:
    stage = Stage(1)
    stage.after_start(0, lambda _: stage.directory.ask_to_stop(now=True))
    outcome = stage.run()
    assert outcome.cause is not None
    assert outcome.cause.message == "stopped by the operator (clusterctl stop)"
    assert [order.grace for order in stage.ordered(0, orders.Stop)] == [0.0]


def test_signals_are_handed_on_to_every_host() -> None:
    stage = Stage(2)
    heard = threading.Barrier(2, timeout=30)

    def end(node: int) -> Callable[[FakeChannel, Any], None]:
        def work(channel: FakeChannel, _: Any) -> None:
            heard.wait()
            stage.hosts[node].end(channel, 0)

        return work

    for node, host in enumerate(stage.hosts):
        host.on[orders.SignalRanks] = end(node)
    stage.after_start(1, lambda _: stage.supervisor.hand_on(signal.SIGUSR1))
    assert stage.run().status == "succeeded"
    assert [stage.ordered(node, orders.SignalRanks)[0].number for node in (0, 1)] == [signal.SIGUSR1] * 2


def test_standard_input_reaches_rank_0_and_nobody_else() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"x" * 50_000)
    os.close(writer)
    stage = Stage(2, stdin=reader)
    got = bytearray()

    def take(channel: FakeChannel, order: orders.Input) -> None:
        got.extend(order.data)
        if not order.data:
            stage.hosts[0].end(channel, 0)

    stage.hosts[0].on[orders.Input] = take
    stage.hosts[1].on[orders.StartAgent] = stage.ends(1)
    assert stage.run().status == "succeeded"
    assert bytes(got) == b"x" * 50_000
    assert stage.ordered(0, orders.StartAgent)[0].job.stdin
    assert not stage.ordered(1, orders.StartAgent)[0].job.stdin
    os.close(reader)


def test_what_is_no_message_costs_that_host_not_the_run_of_this_process() -> None:
    stage = Stage(2)
    stage.after_start(1, lambda channel: channel.say_bytes(b'@@clusterctl1 {"is": "log", "name": "../x"}\n'))
    stage.hosts[1].on[orders.Attach] = lambda channel, _: stage.hosts[1].end(channel, 3)
    outcome = stage.run()
    assert outcome.exit_code == 3
    assert [
        text
        for text in stage.display.said
        if "h1: the connection broke (it sent something that is not a message" in text
    ]


def test_a_host_that_takes_no_input_delays_no_other() -> None:
    stage = Stage(2)
    stuck = threading.Event()

    def block() -> None:
        if stage.ordered(0, orders.StartAgent):
            stuck.wait(30)

    stage.hosts[0].take_input = block
    stage.hosts[1].on[orders.StartAgent] = stage.ends(1, 9)
    outcome = stage.run()
    stuck.set()
    assert (outcome.exit_code, outcome.left_behind) == (9, {"h0": None, "h1": 0})


class FullDisk:
    """Lets every write to a run directory fail from the moment it is turned on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full = False
        for name in ("append_log", "append_event", "write"):
            monkeypatch.setattr(RunDirectory, name, self._wrap(getattr(RunDirectory, name)))

    def _wrap(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*args: Any, **more: Any) -> Any:
            if self.full:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return method(*args, **more)

        return guarded


def test_a_full_disk_here_costs_no_run_and_no_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = FullDisk(monkeypatch)
    monkeypatch.setattr("clusterctl.run.log_collector._PAUSE", 0.1)
    stage = Stage(1)
    host = stage.hosts[0]

    def fills(channel: FakeChannel) -> None:
        disk.full = True
        host.print(channel, b"one\n")

    def room(channel: FakeChannel, _: Any) -> None:
        disk.full = False

    def again(channel: FakeChannel, _: Any) -> None:
        channel.say(relay.LogPiece(name="rank-0.log", offset=0, data=b"one\n"))
        host.end(channel, 0)

    stage.after_start(0, fills)
    host.on[orders.Acknowledge] = room
    host.on[orders.Attach] = again
    outcome = stage.run()
    assert (outcome.status, outcome.incomplete_logs) == ("succeeded", ())
    assert not stage.ordered(0, orders.Stop)
    assert (stage.directory.logs / "h0" / "rank-0.log").read_bytes() == b"one\n" == stage.display.shown
    assert len([text for text in stage.display.said if "cannot write" in text]) == 1
    kinds = [event["event"] for event in stage.directory.events()]
    assert kinds.count("rank-start") == kinds.count("rank-exit") == kinds.count("end") == 1


def test_a_disk_that_stays_full_leaves_the_logs_on_the_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = FullDisk(monkeypatch)
    stage = Stage(1)

    def fills(channel: FakeChannel) -> None:
        disk.full = True
        stage.hosts[0].print(channel, b"one\n")
        stage.hosts[0].end(channel, 0)

    stage.after_start(0, fills)
    outcome = stage.run()
    assert (outcome.status, outcome.exit_code, outcome.incomplete_logs) == ("succeeded", 0, ("h0",))
    assert "No space left" in stage.supervisor.unwritten
    assert not stage.ordered(0, orders.Forget)


class HungDisk:
    """A disk whose next write of a kind does not come back until it is released."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answers = threading.Event()
        self.answers.set()
        for name in ("append_log", "append_event", "write", "claim"):
            monkeypatch.setattr(RunDirectory, name, self._wrap(getattr(RunDirectory, name)))
        monkeypatch.setattr("clusterctl.run.recorder._SILENT", 0.1)
        monkeypatch.setattr("clusterctl.run.closing._PATIENCE", 0.1)

    def hang(self) -> None:
        self.answers.clear()

    def _wrap(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def slow(*args: Any, **more: Any) -> Any:
            assert self.answers.wait(60)
            return method(*args, **more)

        return slow


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[HungDisk]:
    hung = HungDisk(monkeypatch)
    yield hung
    hung.answers.set()


def test_a_disk_that_hangs_for_a_while_costs_nothing(disk: HungDisk) -> None:
    stage = Stage(1)
    host = stage.hosts[0]
    acknowledged_early = []

    def prints(channel: FakeChannel) -> None:
        disk.hang()
        host.print(channel, b"one\n")
        host.print(channel, b"two\n")

    def told(text: str) -> None:
        if "has not answered" in text:
            acknowledged_early.extend(stage.ordered(0, orders.Acknowledge))
            disk.answers.set()

    stage.after_start(0, prints)
    stage.display.on_say = told
    end_once_acknowledged(host, 8)
    outcome = stage.run()
    assert (outcome.status, outcome.incomplete_logs, stage.supervisor.unwritten) == ("succeeded", (), "")
    assert acknowledged_early == []
    assert (stage.directory.logs / "h0" / "rank-0.log").read_bytes() == b"one\ntwo\n" == stage.display.shown
    assert len([text for text in stage.display.said if "has not answered" in text]) == 1
    assert "this machine's disk answers again" in stage.display.said
    assert stage.directory.outcome() == outcome


@pytest.mark.parametrize("limit", [None, 0.5])
def test_a_disk_that_hangs_for_ever_keeps_nobody_from_ending_the_run(
    disk: HungDisk, limit: float | None
) -> None:
    stage = Stage(2, defaults=dataclasses.replace(QUICK, disk_grace=0.3), time_limit=limit)

    def prints(channel: FakeChannel) -> None:
        disk.hang()
        stage.hosts[1].print(channel, b"one\n")
        if limit is None:
            stage.supervisor.interrupt()

    stage.after_start(1, prints)
    outcome = stage.run()
    assert outcome.exit_code == (123 if limit is None else 124)
    assert outcome.left_behind == {"h0": 0, "h1": 0}
    assert outcome.incomplete_logs == ("h0", "h1"), "nobody can tell"
    assert "does not answer" in stage.supervisor.unwritten
    assert not stage.supervisor.disk_answers
    assert not stage.ordered(0, orders.Forget)


def test_a_host_that_sends_without_end_while_the_disk_hangs_fills_no_memory(
    disk: HungDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clusterctl.run.recorder._MOST_WAITING", 10)
    stage = Stage(1)

    def prints(channel: FakeChannel) -> None:
        disk.hang()
        for text in (b"one\n", b"two\n", b"six\n", b"ten\n"):
            stage.hosts[0].print(channel, text)
        stage.hosts[0].end(channel, 0)

    stage.after_start(0, prints)
    stage.display.on_say = lambda text: disk.answers.set() if "has not answered" in text else None
    outcome = stage.run()
    assert (outcome.status, outcome.incomplete_logs) == ("succeeded", ("h0",))
    assert (stage.directory.logs / "h0" / "rank-0.log").read_bytes() == b"one\ntwo\n"
    assert not stage.ordered(0, orders.Forget)


def test_a_link_is_mended_while_the_disk_hangs(disk: HungDisk) -> None:
    stage = Stage(1)
    host = stage.hosts[0]

    def prints(channel: FakeChannel) -> None:
        disk.hang()
        host.print(channel, b"one\n")
        channel.hang_up()

    def again(channel: FakeChannel, _: Any) -> None:
        channel.say(relay.LogPiece(name="rank-0.log", offset=0, data=b"one\n"))
        disk.answers.set()
        host.print(channel, b"two\n")

    stage.after_start(0, prints)
    host.on[orders.Attach] = again
    end_once_acknowledged(host, 8)  # of its present session
    outcome = stage.run()
    assert (outcome.status, outcome.incomplete_logs) == ("succeeded", ())
    assert (stage.directory.logs / "h0" / "rank-0.log").read_bytes() == b"one\ntwo\n" == stage.display.shown


def test_who_waits_for_a_disk_at_the_end_may_end_that(disk: HungDisk) -> None:
    stage = Stage(1)

    def ends(channel: FakeChannel) -> None:
        disk.hang()
        stage.hosts[0].print(channel, b"one\n")
        stage.hosts[0].end(channel, 0)

    stage.after_start(0, ends)
    stage.display.on_say = lambda text: (
        stage.supervisor.interrupt() if "waiting for the disk" in text else None
    )
    outcome = stage.run()
    assert (outcome.status, outcome.exit_code, outcome.incomplete_logs) == ("succeeded", 0, ("h0",))
    assert not stage.supervisor.disk_answers


def test_who_waits_for_a_slow_disk_at_the_end_may_end_that(
    disk: HungDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(1)
    monkeypatch.setattr(Recorder, "silence", lambda _: 0.0)  # something is written all the while

    def ends(channel: FakeChannel) -> None:
        disk.hang()
        stage.hosts[0].end(channel, 0)

    stage.after_start(0, ends)
    stage.display.on_say = lambda text: (
        stage.supervisor.interrupt() if "waiting for the disk" in text else None
    )
    outcome = stage.run()
    assert (outcome.status, outcome.incomplete_logs) == ("succeeded", ("h0",))
    assert "was not waited for" in stage.supervisor.unwritten


@pytest.mark.parametrize("asked", ["run", "take_over"])
def test_a_fault_in_the_thread_of_the_disk_is_raised(asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(_: RunDirectory) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(RunDirectory, "stop_asked", fault)
    stage = Stage(1)
    with pytest.raises(ZeroDivisionError):
        stage.run() if asked == "run" else stage.supervisor.take_over()
    assert not stage.ordered(0, orders.StartAgent)


def test_a_fault_while_it_starts_stops_what_has_started(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(1)
    stopped = threading.Event()
    stage.hosts[0].on[orders.Stop] = lambda channel, order: stopped.set()
    monkeypatch.setattr(
        stage.display, "awaiting", lambda text: 1 // (text != "0 of 1 ranks up")
    )  # as all run
    with pytest.raises(ZeroDivisionError):
        stage.run()
    assert stopped.wait(60)


def test_no_descriptors_to_look_who_supervises_cost_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(1)
    asked = threading.Event()

    def refuses(path: Path) -> bytes | None:
        if path.name != "supervisor.json":
            return read(path)
        asked.set()
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    read = files.read

    def looked(channel: FakeChannel) -> None:
        monkeypatch.setattr(files, "read", refuses)
        assert asked.wait(60)
        stage.hosts[0].end(channel, 0)

    stage.after_start(0, looked)
    assert stage.run().status == "succeeded"


def test_a_disk_that_hangs_before_the_start_starts_nothing(
    disk: HungDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(1, defaults=dataclasses.replace(QUICK, disk_grace=0.3))
    disk.hang()
    monkeypatch.setattr("clusterctl.run.start._PATIENCE", 0.1)
    monkeypatch.setattr(
        stage.display, "awaiting", lambda text: stage.supervisor.interrupt() if "disk" in text else None
    )
    outcome = stage.run()
    assert (outcome.status, outcome.exit_code) == ("stopped", 123)
    assert not stage.ordered(0, orders.StartAgent)


def test_an_opener_that_breaks_is_a_host_that_was_not_opened() -> None:
    stage = Stage(1)

    def breaks(_: FakeChannel) -> None:
        raise RuntimeError("can't start new thread")

    stage.hosts[0].on_open = breaks
    outcome = stage.run()
    assert outcome.cause is not None
    assert outcome.cause.message == "h0: RuntimeError: can't start new thread"


class Pdsh:
    """DeepSpeed's launcher while pdsh says that one host cannot be logged in to."""

    trouble = ""

    def __init__(self) -> None:
        self.unreached: dict[str, str] = {}

    def look(self) -> None:
        self.unreached = {"h0": "Permission denied (publickey)."}

    def close(self, *, at_once: bool = False) -> None:
        return


def test_a_host_that_pdsh_cannot_reach_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clusterctl.run.launcher_watch._PDSH_TIMEOUT", 0.1)
    stage = Stage(2, launcher=lambda plan: cast(DeepSpeedLauncher, Pdsh()))
    outcome = stage.run()
    assert outcome.cause is not None
    assert outcome.cause.host == "h0"
    assert outcome.cause.message.endswith("Permission denied (publickey).")


def test_a_run_whose_controller_is_dead_is_taken_over() -> None:
    stage = Stage(2)
    stage.directory.append_event({"event": "started", "host": "h0", "cwd": "/w"})
    stage.directory.ask_to_stop(now=True)
    beat = relay.Heartbeat(time=1.0)
    stage.hosts[0].on[orders.Attach] = lambda channel, _: channel.say(beat, relay.CaughtUp())
    stage.hosts[1].on[orders.Attach] = lambda channel, _: channel.say(relay.Absent())
    outcome = stage.supervisor.take_over()
    assert outcome.left_behind == {"h0": 0, "h1": 0}
    assert stage.ordered(0, orders.Stop)
    assert not [text for text in stage.display.said if "connected again" in text]


def test_an_interrupted_stop_leaves_ranks_their_time_to_save() -> None:
    stage = Stage(1)
    stage.directory.append_event({"event": "started", "host": "h0", "cwd": "/w"})
    stage.directory.ask_to_stop(now=False)
    heard = threading.Event()

    def stop(channel: FakeChannel, order: Any) -> None:
        if order.reason == "the controller broke":
            heard.set()

    def interrupt(text: str) -> None:
        if "to save" in text:
            stage.display.on_say = lambda text: None
            stage.hosts[0].on[orders.Stop] = stop
            raise KeyboardInterrupt

    stage.display.on_say = interrupt
    with pytest.raises(KeyboardInterrupt):
        stage.supervisor.take_over()
    assert heard.wait(60)
    assert {order.grace for order in stage.ordered(0, orders.Stop)} == {QUICK.stop_grace}


def test_a_controller_that_leaves_stops_nothing_where_hosts_are_to_continue() -> None:
    stage = Stage(2, on_disconnect="continue")
    stage.display.on_up = lambda: stage.supervisor.leave(signal.SIGTERM)
    with pytest.raises(LeftAlone, match=r"run r goes on without its controller, for 24 h at most"):
        stage.run()
    assert stage.directory.outcome() is None
    assert not stage.ordered(0, orders.Stop) and not stage.ordered(1, orders.Stop)


def test_a_controller_that_leaves_stops_the_run_where_hosts_are_to_stop() -> None:
    stage = Stage(2)
    stage.display.on_up = lambda: stage.supervisor.leave(signal.SIGTERM)
    outcome = stage.run()
    assert outcome.cause is not None
    assert (outcome.status, outcome.cause.message) == ("stopped", "stopped by the operator (SIGTERM)")


def test_a_run_that_has_not_begun_is_not_left() -> None:
    stage = Stage(2, on_disconnect="continue")
    stage.supervisor.leave(signal.SIGTERM)
    assert stage.run().status == "error"
    assert not stage.ordered(0, orders.StartAgent)


def test_who_was_displaced_by_attach_ends_nothing() -> None:
    stage = Stage(1)
    with subprocess.Popen(["sleep", "60"]) as other:
        started = claims.process_start(other.pid)
        claim = claims.Claim(pid=other.pid, started=started, boot=claims.boot_id(), verb="attach")
        stage.after_start(0, lambda _: stage.directory.write("supervisor.json", claim))
        with pytest.raises(LeftAlone, match=f"supervised by process {other.pid} in place of this one"):
            stage.run()
        other.kill()
    assert stage.directory.outcome() is None
    assert not stage.ordered(0, orders.Stop)


def test_who_was_displaced_while_it_stood_still_steps_aside() -> None:
    stage = Stage(1)
    with subprocess.Popen(["sleep", "60"]) as other:
        started = claims.process_start(other.pid)
        claim = claims.Claim(pid=other.pid, started=started, boot=claims.boot_id(), verb="stop")
        stage.after_start(0, lambda _: stage.directory.write("supervisor.json", claim))
        outcome = stage.run()
        other.kill()
    assert (outcome.status, outcome.exit_code) == ("stopped", 123)
    assert stage.directory.outcome() is None
    assert not stage.ordered(0, orders.Stop)
    assert not stage.ordered(0, orders.Forget)


def test_many_interrupts_are_two() -> None:
    stage = Stage(1)

    def interrupts(_: FakeChannel) -> None:
        for _again in range(5):
            stage.supervisor.interrupt()

    stage.after_start(0, interrupts)
    stage.hosts[0].on[orders.Stop] = lambda channel, order: (
        None if order.grace else stage.hosts[0].end(channel, 143, told=True)
    )
    outcome = stage.run()
    assert (outcome.exit_code, outcome.left_behind) == (123, {"h0": 0})
