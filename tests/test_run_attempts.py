"""Several attempts at one run, on hosts played by the test."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from clusterctl.errors import ClusterctlError
from clusterctl.messages import events, relay
from clusterctl.plan.model import LaunchPlan
from clusterctl.run.attempts import Attempts
from clusterctl.run.display import Display
from clusterctl.run.supervise import Supervisor
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
        self.jobs: list[relay.Job] = []
        self.asked: list[tuple[Attempt, ...]] = []
        self.on_replan: Callable[[], None] = lambda: None
        self.directory = RunDirectory.create(plan(2))
        for node, host in enumerate(self.hosts):
            host.on[relay.StartAgent] = self.start(node)
        del self.hosts[1].on[relay.Stop]  # it has ended by then
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

        def start(channel: FakeChannel, order: relay.StartAgent) -> None:
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
    forgotten = [order.last for order in stage.hosts[1].orders if isinstance(order, relay.Forget)]
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


def test_whoever_takes_over_between_two_attempts_finds_nothing_left_to_follow() -> None:
    stage = Stage(fails(1), succeeds)
    died = threading.Event()

    def wait() -> None:  # as if the controller had died here
        died.wait(30)

    stage.on_replan = wait
    thread = threading.Thread(target=stage.attempts.run, daemon=True)
    thread.start()
    while not stage.asked:
        died.wait(0.01)
    ended = stage.directory.ended_attempts()
    next_one = Attempts(
        stage.directory.plan(), stage.directory, stage.display, stage.supervise, None, ended=ended
    )
    outcome = next_one.take_over("stop")
    assert (outcome.status, outcome.left_behind) == ("stopped", {"h0": 0, "h1": 0})
    assert json.loads((stage.directory.path / "outcome.json").read_text())["attempts"][0]["exit_code"] == 7
    stage.attempts.interrupt(2)
    died.set()
    thread.join(30)


def lost(stage: Stage, channel: FakeChannel) -> None:
    """Its host was rebooted."""
    absent = relay.Absent(reason="the host was rebooted")
    stage.hosts[1].on[relay.Attach] = lambda channel, _: channel.say(absent)
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
