"""Several attempts at one run, on hosts played by the test."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from clusterctl.errors import ClusterctlError
from clusterctl.messages import events, orders, relay
from clusterctl.plan.model import LaunchPlan
from clusterctl.run.attempts import Attempts
from clusterctl.run.display import Display
from clusterctl.run.leaving import LeftAlone
from clusterctl.run.past import Past
from clusterctl.run.supervise import Supervisor
from clusterctl.store.claims import Claim, boot_id, process_start
from clusterctl.store.outcome import Attempt, Outcome
from clusterctl.store.runs import RunDirectory
from tests.fake_hosts import FakeChannel, FakeHost, FakeTransport
from tests.test_run_machine import plan
from tests.test_run_supervise import QUICK, Seen

TAKEN = b"The server socket has failed to listen. port: 29500, name: EADDRINUSE, address already in use\n"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CLUSTERCTL_HOME", str(tmp_path))
    return tmp_path


class Stage:
    """A run of one rank on each of two hosts. ``acts`` play the rank of h1, one for each attempt; that of h0
    ends well with the last of them."""

    def __init__(self, *acts: Callable[[Stage, FakeChannel], None], **more: Any) -> None:
        self.acts = list(acts)
        self.hosts = [FakeHost(f"h{rank}", rank) for rank in range(2)]
        self.display = Seen()
        self.jobs: list[orders.Job] = []
        self.asked: list[tuple[Attempt, ...]] = []
        self.on_replan: Callable[[], None] = lambda: None
        self.directory = RunDirectory.create(plan(2))
        for node, host in enumerate(self.hosts):
            host.on[orders.StartAgent] = self.start(node)
        del self.hosts[1].on[orders.Stop]  # it has ended by then
        self.attempts = Attempts(
            plan(2), self.directory, self.display, self.supervise, self.replan, **{"max_restarts": 9, **more}
        )

    def supervise(self, plan: LaunchPlan, display: Display, **more: Any) -> Supervisor:
        for host in self.hosts:
            host.log, host.offset = b"", 0
        return Supervisor(
            plan,
            None,
            FakeTransport(*self.hosts),
            self.directory,
            clock_offsets={},
            owner="ann",
            display=display,
            defaults=QUICK,
            **more,
        )

    def replan(self, before: LaunchPlan, ended: tuple[Attempt, ...]) -> LaunchPlan:
        self.asked.append(ended)
        self.on_replan()
        return msgspec.structs.replace(before, attempt=before.attempt + 1, master_port=before.master_port + 1)

    def start(self, node: int) -> Callable[[FakeChannel, Any], None]:
        host = self.hosts[node]

        def start(channel: FakeChannel, order: orders.StartAgent) -> None:
            host.start(channel)
            if node == 1:
                self.jobs.append(order.job)
                self.acts.pop(0)(self, channel)
            elif not self.acts or len(self.acts) == 1:
                host.end(channel, 0)

        return start

    def run(self) -> Outcome:
        found: list[Any] = []
        thread = threading.Thread(target=lambda: found.append(self.attempts.run()), daemon=True)
        thread.start()
        thread.join(60)
        assert found, "the run did not come back"
        outcome: Outcome = found[0]
        return outcome


def fails(*steps: int, code: int = 7) -> Callable[[Stage, FakeChannel], None]:
    def act(stage: Stage, channel: FakeChannel) -> None:
        write(stage, channel, "".join(f"step {step}/100  loss 1.0\n" for step in steps))
        finish(stage, channel, code)

    return act


def succeeds(stage: Stage, channel: FakeChannel) -> None:
    finish(stage, channel, 0)


def write(stage: Stage, channel: FakeChannel, text: str, *, agent: bool = False) -> None:
    """Bytes of the log of this attempt."""
    host, attempt = stage.hosts[1 - agent], len(stage.jobs)
    suffix = f".attempt-{attempt}" if attempt > 1 else ""
    name = f"agent{suffix}.log" if agent else f"rank-1{suffix}.log"
    channel.say(relay.LogPiece(name=name, offset=0, data=text.encode()))
    host.log = b"" if agent else text.encode()


def finish(stage: Stage, channel: FakeChannel, code: int) -> None:
    host, attempt = stage.hosts[1], len(stage.jobs)
    exited = events.RankExited(
        time=2.0, rank=1, code=code, signal=None, started=1.0, ended=2.0, peak_memory=1, told=False
    )
    complete = host.complete()
    if attempt > 1:
        logs = {f"rank-1.attempt-{attempt}.log": mark for mark in complete.logs.values()}
        complete = relay.Complete(logs=logs)
    channel.say(host.event(exited), host.event(events.Ended(time=2.0, left=0)), complete)


def test_every_attempt_has_its_logs_its_port_and_its_cause() -> None:
    stage = Stage(fails(1, 2), fails(1, 2, 3, code=9), succeeds)
    outcome = stage.run()
    assert (outcome.status, outcome.exit_code, outcome.restarts) == ("succeeded", 0, 2)
    told = [(each.attempt, each.status, each.exit_code, each.last_step) for each in outcome.attempts]
    assert told == [(1, "failed", 7, 2), (2, "failed", 9, 3), (3, "succeeded", 0, None)]
    assert [each.cause and each.cause.log for each in outcome.attempts] == [
        "logs/h1/rank-1.log",
        "logs/h1/rank-1.attempt-2.log",
        None,
    ]
    assert stage.directory.outcome() == outcome
    logs = stage.directory.logs / "h1"
    assert (logs / "rank-1.log").read_text() == "step 1/100  loss 1.0\nstep 2/100  loss 1.0\n"
    assert (logs / "rank-1.attempt-2.log").read_text().count("step") == 3
    assert [job.env["CLUSTERCTL_ATTEMPT"] for job in stage.jobs] == ["1", "2", "3"]
    assert [stage.directory.plan(number).master_port for number in (1, 2, 3)] == [29500, 29501, 29502]
    assert stage.directory.plan().attempt == 3
    forgotten = [order.last for order in stage.hosts[1].orders if isinstance(order, orders.Forget)]
    assert forgotten == [False, False, True]
    assert stage.directory.ended_attempts() == outcome.attempts[:2]


def test_between_two_attempts_the_run_goes_on_for_everybody_who_looks() -> None:
    stage = Stage(fails(), succeeds)
    seen: list[bool] = []
    stage.on_replan = lambda: seen.append(stage.directory.running())
    assert stage.run().status == "succeeded"
    assert seen == [True]


def test_the_last_failure_is_the_runs_and_says_why_there_was_no_more() -> None:
    outcome = Stage(fails(1), fails(2, code=9), max_restarts=1).run()
    assert (outcome.status, outcome.exit_code, outcome.restarts) == ("failed", 9, 1)
    assert outcome.no_restart == "the only restart is used up"


def test_what_could_not_begin_anywhere_is_not_tried_again() -> None:
    stage = Stage(succeeds)

    def refuse(channel: FakeChannel) -> None:
        raise ConnectionRefusedError("refused")

    stage.hosts[1].on_open = refuse
    outcome = stage.run()
    assert (outcome.status, len(outcome.attempts), outcome.no_restart) == ("error", 1, "")


def test_one_attempt_is_all_where_nobody_asked_for_more() -> None:
    outcome = Stage(fails(), max_restarts=0).run()
    assert (outcome.exit_code, len(outcome.attempts), outcome.no_restart) == (7, 1, "")


def test_a_port_that_is_taken_costs_no_restart() -> None:
    def taken(stage: Stage, channel: FakeChannel) -> None:
        assert stage.hosts[0].channel is not None
        write(stage, stage.hosts[0].channel, TAKEN.decode(), agent=True)
        finish(stage, channel, 1)

    outcome = Stage(taken, succeeds, max_restarts=0).run()
    assert (outcome.status, outcome.restarts) == ("succeeded", 0)
    assert [each.free for each in outcome.attempts] == [True, False]


@pytest.mark.parametrize("how", ["interrupt", "stop"])
def test_an_end_that_is_asked_for_between_two_attempts_is_the_end(how: str) -> None:
    stage = Stage(fails(1), succeeds)
    asked = threading.Event()

    def ask() -> None:
        stage.attempts.interrupt(2) if how == "interrupt" else stage.directory.ask_to_stop(now=False)
        asked.wait(30)  # the look at the hosts takes its time, the end does not

    stage.on_replan = ask
    outcome = stage.run()
    asked.set()
    assert (outcome.status, outcome.exit_code) == ("stopped", 123)
    assert len(outcome.attempts) == 1 and len(stage.jobs) == 1
    assert stage.directory.outcome() == outcome


def test_hosts_that_are_not_ready_again_end_it_with_the_reason() -> None:
    stage = Stage(fails(1), succeeds)

    def refuse() -> None:
        raise ClusterctlError("h1 is not ready: its GPU is gone")

    stage.on_replan = refuse
    outcome = stage.run()
    assert (outcome.status, outcome.exit_code) == ("failed", 7)
    assert outcome.no_restart == "h1 is not ready: its GPU is gone"
    assert stage.directory.outcome() == outcome


def test_a_stop_during_the_failure_is_heeded() -> None:
    stage = Stage(fails(1), succeeds)
    stage.display.on_say = lambda text: stage.attempts.interrupt(2) if "exit code 7" in text else None
    outcome = stage.run()
    assert len(outcome.attempts) == 1


def successor(stage: Stage, replan: Any, **more: Any) -> Attempts:
    """What another controller makes of the same run."""
    plan = stage.directory.plan()
    past = Past.of(stage.directory, plan)
    wanted: dict[str, Any] = {"max_restarts": 9, "past": past, **more}
    return Attempts(plan, stage.directory, stage.display, stage.supervise, replan, **wanted)


@contextmanager
def dead_between(stage: Stage) -> Iterator[None]:
    """Its controller has died there."""
    died = threading.Event()
    stage.on_replan = lambda: (died.wait(60), None)[1]
    thread = threading.Thread(target=stage.attempts.run, daemon=True)
    thread.start()
    while not stage.asked:
        died.wait(0.01)
    stage.on_replan = lambda: None
    yield
    stage.attempts.interrupt(2)
    died.set()
    thread.join(30)


def test_stop_between_two_attempts_finds_nothing_left_to_follow() -> None:
    stage = Stage(fails(1), succeeds)
    with dead_between(stage):
        outcome = successor(stage, None).take_over("stop")
        assert (outcome.status, outcome.left_behind) == ("stopped", {"h0": 0, "h1": 0})
        assert stage.directory.outcome() == outcome and outcome.attempts[0].exit_code == 7


def test_whoever_attaches_between_two_attempts_begins_the_next() -> None:
    stage = Stage(fails(1, 2), fails(1, 2, code=9), succeeds)
    with dead_between(stage):
        outcome = successor(stage, stage.replan).take_over("attach")
    assert [each.exit_code for each in outcome.attempts] == [7, 9, 0]
    assert (outcome.status, outcome.restarts) == ("succeeded", 2)
    assert stage.asked[1] == outcome.attempts[:1], "with what the first controller has seen"
    spent = outcome.spent
    assert spent is not None and spent.start is not None and spent.productive is not None
    parts = spent.start + spent.detection + spent.stop + (spent.lost or 0) + spent.productive
    assert parts == pytest.approx(spent.seconds, abs=0.01) and spent.seconds <= outcome.seconds + 1


def test_restarts_of_an_earlier_controller_count() -> None:
    stage = Stage(fails(1), fails(2, code=9))
    with dead_between(stage):
        outcome = successor(stage, stage.replan, max_restarts=1).take_over("attach")
    assert (outcome.exit_code, outcome.no_restart) == (9, "the only restart is used up")


def test_what_cannot_begin_again_says_why() -> None:
    stage = Stage(fails(1))
    with dead_between(stage):
        outcome = successor(stage, None, without="A_TOKEN was never written down").take_over("attach")
    assert (outcome.status, outcome.exit_code) == ("failed", 7)
    assert outcome.no_restart == "A_TOKEN was never written down"


def test_an_attempt_that_another_controller_began_is_followed_by_the_next() -> None:
    stage = Stage(fails(1), succeeds)
    told = {"event": "started", "time": 1.0, "host": "h1", "cwd": "/p"}
    stage.directory.append_event(told)
    stage.directory.append_event({"event": "first-step", "time": time.time(), "step": 3})
    stage.directory.append_log("h1", "rank-1.log", 0, b"step 3/100\nstep 8/100\n")

    def tell(channel: FakeChannel, _: Any) -> None:
        exited = events.RankExited(
            time=2.0, rank=1, code=7, signal=None, started=1.0, ended=2.0, peak_memory=1, told=False
        )
        host = stage.hosts[1]
        host.log = b"step 3/100\nstep 8/100\nstep 9/100\n"
        rest = relay.LogPiece(name="rank-1.log", offset=22, data=b"step 9/100\n")
        channel.say(rest, host.event(exited), host.event(events.Ended(time=2.0, left=0)), host.complete())

    stage.hosts[1].on[orders.Attach] = tell
    stage.hosts[0].on[orders.Attach] = lambda channel, _: stage.hosts[0].end(channel, 0)
    stage.acts.pop(0)
    outcome = successor(stage, stage.replan).take_over("attach")
    assert [(each.first_step, each.last_step, each.status) for each in outcome.attempts] == [
        (3, 9, "failed"),
        (None, None, "succeeded"),
    ]
    assert outcome.spent is not None and outcome.spent.lost_steps is not None


def test_who_was_displaced_between_two_attempts_begins_none() -> None:
    stage = Stage(fails(1), succeeds)
    other = Claim(pid=os.getppid(), started=process_start(os.getppid()), boot=boot_id(), verb="attach")
    stage.on_replan = lambda: stage.directory.write("supervisor.json", other)
    with pytest.raises(LeftAlone, match="goes on, supervised by process"):
        stage.attempts.run()
    assert len(stage.jobs) == 1 and stage.directory.outcome() is None


def lost(stage: Stage, channel: FakeChannel) -> None:
    """Its host was rebooted."""
    absent = relay.Absent(reason="the host was rebooted")
    stage.hosts[1].on[orders.Attach] = lambda channel, _: channel.say(absent)
    channel.hang_up()


def test_a_lost_host_that_is_used_again_is_not_waited_for_it_ends_what_it_has_itself() -> None:
    stage = Stage(lost, succeeds)
    outcome = stage.run()
    assert [each.status for each in outcome.attempts] == ["lost", "succeeded"]
    assert outcome.left_behind == {"h0": 0, "h1": 0}
    assert not [text for text in stage.display.said if text.startswith("waiting ")]


@pytest.mark.parametrize("policy", ["stop", "continue"])
def test_a_lost_host_that_is_replaced_must_have_ended_its_ranks_before(
    policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(lost)
    stage.attempts.plan = msgspec.structs.replace(stage.attempts.plan, on_disconnect=policy)
    nodes = stage.attempts.plan.nodes
    spare = (nodes[0], msgspec.structs.replace(nodes[1], host="spare"))
    monkeypatch.setattr(
        stage, "replan", lambda before, _: msgspec.structs.replace(before, attempt=2, nodes=spare)
    )
    stage.attempts._replan = stage.replan
    stage.display.on_say = lambda text: stage.attempts.interrupt(2) if text.startswith("waiting ") else None
    outcome = stage.run()
    if policy == "continue":
        assert (outcome.status, outcome.exit_code) == ("lost", 121)
        assert outcome.no_restart == "h1 may go on without a controller, as --on-disconnect tells it"
    else:
        (said,) = [text for text in stage.display.said if text.startswith("waiting ")]
        assert said.endswith("by then h1 has ended its ranks by itself")
        assert outcome.status == "stopped", "nobody has to sit it out"
    assert outcome.left_behind == {"h0": 0, "h1": None}
