"""The decisions of a run, step by step, with a clock in the test's hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from clusterctl.messages import relay
from clusterctl.messages.events import (
    Ended,
    EngineExited,
    LeaseOver,
    LeftProcess,
    RankError,
    RankExited,
    Refused,
    Stopping,
)
from clusterctl.plan.model import Code, LaunchPlan, NodePlan, OnDisconnect
from clusterctl.run.actions import Finish, IndirectProbe, Reconnect, Say, StopHosts
from clusterctl.run.machine import Machine
from clusterctl.run.states import HostState, RunState
from clusterctl.settings import RUN
from clusterctl.store.outcome import Outcome
from clusterctl.transport.protocol import Failure, Stage


def plan(
    hosts: int = 3, *, time_limit: float | None = None, on_disconnect: OnDisconnect = "stop"
) -> LaunchPlan:
    nodes = tuple(
        NodePlan(
            host=f"h{rank}",
            node_rank=rank,
            slots=(0,),
            declared_slots=1,
            ranks=(rank,),
            address=f"10.0.0.{rank}",
            ifname="eth0",
            python="/usr/bin/python3",
            settings=(),
        )
        for rank in range(hosts)
    )
    return LaunchPlan(
        run="r",
        start="torchrun",
        command=("{python}", "t.py"),
        arguments=(),
        pass_local_rank=False,
        world_size=hosts,
        master_addr="10.0.0.0",
        master_port=29500,
        nodes=nodes,
        code=Code(root="/p"),
        hostfile="hostfile",
        time_limit=time_limit,
        on_disconnect=on_disconnect,
    )


class Play:
    """A machine and its clock; actions of the last step by type."""

    def __init__(self, hosts: int = 3, **more: Any) -> None:
        self.now = 100.0
        self.machine = Machine(plan(hosts, **more), self.now, 1000.0)
        self.actions: list[Any] = []

    def do(self, what: str, *args: Any) -> Play:
        self.actions = getattr(self.machine, what)(*args, self.now) or []
        return self

    def exits(self, node: int, code: int = 0, *, told: bool = False, **more: Any) -> Play:
        at = 1000.0 + self.now - 100
        event = RankExited(
            time=at,
            rank=node,
            code=code,
            started=at,
            ended=at,
            peak_memory=0,
            told=told,
            **{"signal": None, **more},
        )
        return self.do("agent_event", node, event, at)

    def ends(self, node: int, left: int = 0) -> Play:
        self.do("agent_event", node, Ended(time=0.0, left=left), 0.0)
        return self.do("complete", node)

    def unopened(self, node: int, message: str, stage: Stage = "connect") -> Play:
        return self.do("unopened", node, Failure(host=f"h{node}", stage=stage, message=message))

    def pass_time(self, seconds: float, *, heard: tuple[int, ...] = ()) -> Play:
        """Ticks of half a second; ``heard`` hosts send a heartbeat in each. Collects what was decided."""
        actions: list[Any] = []
        for _ in range(round(seconds * 2)):
            self.now += 0.5
            for node in heard:
                self.machine.heard(node, self.now)
            actions += self.machine.tick(self.now)
        self.actions = actions
        return self

    def of(self, kind: type) -> list[Any]:
        return [action for action in self.actions if isinstance(action, kind)]

    @property
    def outcome(self) -> Outcome:
        finish: Finish
        (finish,) = self.of(Finish)
        return finish.outcome


def test_all_ranks_end_well() -> None:
    play = Play(2).exits(0).exits(1).ends(0)
    assert play.of(Finish) == []
    outcome = play.ends(1).outcome
    assert (outcome.status, outcome.exit_code, outcome.left_behind) == ("succeeded", 0, {"h0": 0, "h1": 0})


def test_the_first_failure_stops_every_host_at_once() -> None:
    play = Play(3).exits(1, 7)
    assert play.of(StopHosts) == [
        StopHosts((0, 1, 2), RUN.failure_grace, "h1 rank 1: ended with exit code 7")
    ]
    play.exits(0, 143, told=True).exits(2, 1).ends(0).ends(1).ends(2)
    assert (play.outcome.status, play.outcome.exit_code) == ("failed", 7)
    assert play.outcome.cause is not None
    assert play.outcome.cause.rank == 1
    assert {cause.rank for cause in play.outcome.collateral} == {0, 2}


def test_what_the_end_waits_for_is_said_in_words() -> None:
    play = Play(3)
    assert play.machine.awaited == ""
    play.do("interrupt")
    assert play.machine.awaited == "waiting for h[0-2] to end, 30 s to save"
    play.exits(0, 143, told=True).exits(1, 143, told=True).ends(0)
    assert play.machine.awaited == "waiting for h2 to end, 30 s to save"
    play.exits(2, 143, told=True).ends(2)
    assert play.machine.awaited == "waiting for h1 to end"
    play.do("agent_event", 1, Ended(time=0.0, left=0), 0.0)
    assert play.machine.awaited == "waiting for the logs of h1"
    assert play.ends(1).machine.awaited == ""


def test_a_second_failure_gives_no_second_order() -> None:
    assert Play(3).exits(1, 7).exits(2, 1).of(StopHosts) == []


def test_interrupts_first_let_save_then_mean_now() -> None:
    play = Play(2).do("interrupt")
    assert [stop.grace for stop in play.of(StopHosts)] == [RUN.stop_grace]
    assert [stop.grace for stop in play.do("interrupt").of(StopHosts)] == [0.0]
    play.exits(0, 143).ends(0).ends(1)
    assert (play.outcome.status, play.outcome.exit_code) == ("stopped", 123)
    assert play.outcome.cause is not None
    assert play.outcome.cause.kind == "operator"


def test_asking_twice_to_stop_keeps_the_grace() -> None:
    assert Play(2).do("stop_asked", False).of(StopHosts)
    play = Play(2).do("stop_asked", False)
    assert play.do("stop_asked", False).of(StopHosts) == []


def test_an_interrupt_while_a_failure_is_stopped_keeps_the_cause() -> None:
    play = Play(2).exits(0, 7).do("interrupt").do("interrupt").ends(0).ends(1)
    assert (play.outcome.status, play.outcome.exit_code) == ("failed", 7)


def test_the_time_limit_stops_with_the_long_grace() -> None:
    play = Play(1, time_limit=60.0).pass_time(59, heard=(0,))
    assert play.of(StopHosts) == []
    play.pass_time(2, heard=(0,))
    assert [stop.grace for stop in play.of(StopHosts)] == [RUN.stop_grace]
    play.exits(0, 143, told=True).ends(0)
    assert (play.outcome.status, play.outcome.exit_code) == ("timeout", 124)


def test_a_broken_link_is_mended_and_stops_nothing() -> None:
    play = Play(2).do("link_lost", 1, "reset")
    assert play.of(StopHosts) == []
    play.pass_time(1, heard=(0,))
    assert play.of(Reconnect) == [Reconnect(1)]
    play.do("linked", 1)
    assert play.actions == []
    play.do("heard", 1)
    assert [say.text for say in play.of(Say)] == ["h1: connected again, nothing was lost"]
    assert play.pass_time(20, heard=(0, 1)).actions == []


def test_a_silent_host_is_lost_only_when_no_other_host_reaches_it_either() -> None:
    play = Play(3).pass_time(RUN.heartbeat_timeout + 1, heard=(0, 2))
    assert play.of(Reconnect) == [Reconnect(1)]
    assert play.of(IndirectProbe) == [IndirectProbe(0, 1)]
    assert play.do("probed", 1, False).pass_time(5, heard=(0, 2)).of(StopHosts) == []
    alive = play.do("probed", 1, True).unopened(1, "timed out").pass_time(3, heard=(0, 2))
    assert alive.of(StopHosts) == []
    play.unopened(1, "timed out").do("probed", 1, False).pass_time(1, heard=(0, 2))
    assert [stop.nodes for stop in play.of(StopHosts)] == [(0, 2)]
    play.ends(0).ends(2)
    assert (play.outcome.status, play.outcome.exit_code) == ("lost", 121)
    assert play.outcome.left_behind == {"h0": 0, "h1": None, "h2": 0}


def test_silence_of_all_hosts_is_the_controllers_own_until_the_lease_ends() -> None:
    play = Play(2).pass_time(RUN.heartbeat_timeout + 5)
    assert {action.node for action in play.of(Reconnect)} == {0, 1}
    for _ in range(5):
        play.unopened(0, "timed out").unopened(1, "timed out").pass_time(5)
        assert play.of(StopHosts) == []
    play.pass_time(RUN.lease_attached)
    assert (play.outcome.status, play.outcome.exit_code) == ("lost", 121)
    assert play.outcome.left_behind == {"h0": None, "h1": None}
    cause = play.outcome.cause
    assert cause is not None and cause.host == ""
    assert cause.message.startswith("nothing came from any host for")


@pytest.mark.parametrize("first", [0, 1])
def test_leases_that_ran_out_while_no_host_was_heard_are_no_hosts_fault(first: int) -> None:
    play = Play(2).pass_time(5, heard=(0, 1)).pass_time(RUN.lease_attached + 2)
    for node in (first, 1 - first):
        play.do("linked", node).do("heard", node).do("agent_event", node, LeaseOver(time=0.0), 1065.0)
    for node in (0, 1):
        play.exits(node, 143, told=True).ends(node)
    cause = play.outcome.cause
    assert (play.outcome.status, play.outcome.exit_code) == ("lost", 121)
    assert cause is not None and (cause.kind, cause.host) == ("lost", "")
    assert {each.kind for each in play.outcome.collateral} == {"exit"}


def test_of_hosts_that_were_all_silent_the_last_to_be_heard_again_is_not_lost() -> None:
    """The first has ended its ranks meanwhile, and is over as soon as it is heard."""
    play = Play(2).pass_time(5, heard=(0, 1)).pass_time(RUN.lease_attached + 2)
    play.unopened(1, "timed out").do("linked", 0).do("heard", 0).do(
        "agent_event", 0, LeaseOver(time=0.0), 1065.0
    )
    play.exits(0, 143, told=True).ends(0).pass_time(1).unopened(1, "timed out").pass_time(4)
    play.do("linked", 1).do("heard", 1).do("agent_event", 1, LeaseOver(time=0.0), 1065.0)
    play.exits(1, 143, told=True).ends(1)
    assert (play.outcome.status, play.outcome.cause and play.outcome.cause.host) == ("lost", "")


def test_a_silence_of_all_excuses_no_host_that_is_silent_alone_later() -> None:
    play = Play(2).pass_time(5, heard=(0, 1)).pass_time(RUN.lease_attached - 15)
    for node in (0, 1):
        play.do("linked", node).do("heard", node)
    play.pass_time(RUN.lease_attached + 2, heard=(0,))
    play.do("linked", 1).do("heard", 1).do("agent_event", 1, LeaseOver(time=0.0), 1115.0)
    play.exits(0, 143, told=True).exits(1, 143, told=True).ends(0).ends(1)
    assert (play.outcome.status, play.outcome.cause and play.outcome.cause.host) == ("lost", "h1")


def test_a_sleep_of_this_machine_excuses_no_host_that_is_silent_later() -> None:
    play = Play(2).pass_time(5, heard=(0, 1))
    play.now += RUN.lease_attached - 15
    play.do("tick").pass_time(1, heard=(0, 1)).pass_time(RUN.lease_attached + 2, heard=(0,))
    play.do("linked", 1).do("heard", 1).do("agent_event", 1, LeaseOver(time=0.0), 1115.0)
    play.exits(0, 143, told=True).exits(1, 143, told=True).ends(0).ends(1)
    assert (play.outcome.status, play.outcome.cause and play.outcome.cause.host) == ("lost", "h1")


def test_hosts_that_continue_are_waited_for_as_long_as_they_do() -> None:
    play = Play(2, on_disconnect="continue").pass_time(RUN.heartbeat_timeout + 5)
    for _ in range(10):
        play.unopened(0, "timed out").unopened(1, "timed out").pass_time(RUN.lease_attached)
        assert play.machine.stopping is None
    play.now += RUN.lease_detached  # in steps that are no standstill of this machine's
    play.machine.ticked = play.now
    play.pass_time(1)
    assert play.outcome.status == "lost"


def test_silence_of_the_last_host_that_runs_may_be_the_controllers_own() -> None:
    play = Play(2).exits(0).ends(0).pass_time(5, heard=(0, 1))
    for node in (0, 1):
        play.do("link_lost", node, "network is unreachable")
    play.pass_time(20).unopened(1, "network is unreachable").pass_time(10)
    assert play.machine.stopping is None
    play.do("linked", 1).do("heard", 1)
    play.exits(1).ends(1)
    assert play.outcome.status == "succeeded"


def test_the_last_host_that_runs_is_not_to_blame_where_the_others_are_silent_too() -> None:
    play = Play(2).exits(0).ends(0).pass_time(5, heard=(0, 1))
    play.pass_time(RUN.lease_attached + RUN.heartbeat_timeout + 1)
    assert (play.outcome.status, play.outcome.cause and play.outcome.cause.host) == ("lost", "")


def test_the_last_host_that_runs_is_lost_while_others_are_heard() -> None:
    play = Play(2).exits(0).ends(0).pass_time(5, heard=(0, 1))
    play.do("link_lost", 1, "closed").unopened(1, "no route to host").pass_time(20, heard=(0,))
    assert play.outcome.status == "lost"


def test_a_host_that_goes_after_its_end_fails_no_run() -> None:
    play = Play(1).exits(0).do("agent_event", 0, Ended(time=0.0, left=0), 0.0)
    play.do("absent", 0, "").pass_time(1)
    assert (play.outcome.status, play.outcome.left_behind) == ("succeeded", {"h0": 0})


def test_a_machine_that_slept_blames_nobody() -> None:
    play = Play(2).pass_time(2, heard=(0, 1))
    play.now += 3600
    assert play.do("tick").actions == []


def test_a_rebooted_host_is_lost_at_once() -> None:
    play = Play(2).do("absent", 1, "rebooted")
    assert [stop.nodes for stop in play.of(StopHosts)] == [(0,)]


def test_a_refused_slot_is_refused_not_failed() -> None:
    refused = Refused(time=0.0, reason="slot 0 is busy with run x of alice", run="x")
    play = Play(2).do("agent_event", 1, refused, 0.0)
    assert [stop.grace for stop in play.of(StopHosts)] == [0.0]
    play.exits(0, 143).ends(0).ends(1)
    assert (play.outcome.status, play.outcome.exit_code) == ("refused", 120)
    assert play.outcome.cause is not None
    assert play.outcome.cause.message == "slot 0 is busy with run x of alice"
    assert play.outcome.cause.holder == "x"


def test_a_rank_that_ends_early_is_noted_not_stopped() -> None:
    play = Play(2).exits(0).pass_time(RUN.early_exit_note + 1, heard=(0, 1))
    assert [say.text for say in play.of(Say)] == ["h0: rank 0 ended with 0 while 1 rank still runs"]
    assert play.of(StopHosts) == []


def test_a_host_that_cannot_start_stops_those_that_did() -> None:
    play = Play(3).do("not_started", (1, 2), "h1: cannot start there: disk full", 1000.0)
    assert [stop.nodes for stop in play.of(StopHosts)] == [(0,)]
    play.exits(0, 143, told=True).ends(0)
    assert (play.outcome.status, play.outcome.exit_code) == ("error", 125)
    assert play.outcome.left_behind == {"h0": 0, "h1": 0, "h2": 0}


def test_a_host_that_comes_back_during_a_stop_gets_the_same_grace() -> None:
    play = Play(2).do("link_lost", 1, "reset").do("interrupt").do("linked", 1)
    assert [(stop.nodes, stop.grace) for stop in play.of(StopHosts)] == [((1,), RUN.stop_grace)]
    play = Play(2).do("link_lost", 1, "reset").exits(0, 3).do("linked", 1)
    assert [(stop.nodes, stop.grace) for stop in play.of(StopHosts)] == [((1,), RUN.failure_grace)]


def test_an_agent_that_ends_before_its_ranks_is_no_success() -> None:
    play = Play(2).exits(0).ends(0)
    assert play.do("agent_event", 1, Ended(time=0.0, left=0), 0.0).of(StopHosts)
    outcome = play.do("complete", 1).outcome
    assert (outcome.status, outcome.exit_code) == ("error", 125)
    assert outcome.cause is not None
    assert (outcome.cause.host, outcome.cause.message) == ("h1", "the agent ended before its ranks did")


def test_another_host_is_asked_again_but_not_all_the_time() -> None:
    play = Play(3).do("link_lost", 1, "closed").unopened(1, "refused")
    play.pass_time(RUN.heartbeat_timeout + 1, heard=(0, 2))
    assert play.of(IndirectProbe) == [IndirectProbe(0, 1)]
    play.do("probed", 1, True).pass_time(RUN.heartbeat_timeout - 1, heard=(0, 2))
    assert play.of(IndirectProbe) == []
    play.pass_time(2, heard=(0, 2))
    assert play.of(IndirectProbe) == [IndirectProbe(0, 1)]
    play.do("probed", 1, False).pass_time(0.5, heard=(0, 2))
    assert [stop.reason for stop in play.of(StopHosts)] == [
        "h1: lost: neither the controller nor another host can reach it"
    ]


def test_a_host_that_answers_others_but_not_us_is_lost_when_its_lease_is_over() -> None:
    play = Play(3).do("link_lost", 1, "closed").unopened(1, "refused")
    for _ in range(200):
        play.do("probed", 1, True).pass_time(0.5, heard=(0, 2))
        if play.of(StopHosts):
            break
    waited = play.now - 100.0
    assert RUN.lease_attached < waited < RUN.lease_attached + RUN.heartbeat_timeout + 2
    play.exits(0, 143, told=True).exits(2, 143, told=True).ends(0).ends(2)
    assert (play.outcome.status, play.outcome.left_behind["h1"]) == ("lost", None)


def test_hours_of_failed_tries_are_no_trouble() -> None:
    play = Play(1)
    for _ in range(5000):
        play.unopened(0, "refused")
    assert play.machine.nodes[0].retry_at == play.now + 8.0


def test_processes_that_no_signal_ended_are_named() -> None:
    play = Play(2)
    play.do("interrupt")
    left = tuple(LeftProcess(pid, "python train.py") for pid in (11, 12, 13))
    said = play.do("agent_event", 1, Ended(time=0.0, left=4, processes=left), 0.0).of(Say)
    each = ", ".join(f"{pid} python train.py" for pid in (11, 12, 13))
    assert said[-1].text == f"{play.machine.nodes[1].host}: what could not be ended there: {each} and 1 more"


def test_a_run_whose_controller_never_started_it_left_nothing() -> None:
    play = Play(2).do("never_started", 0).do("never_started", 1)
    assert (play.outcome.exit_code, play.outcome.left_behind) == (125, {"h0": 0, "h1": 0})


def test_what_has_ended_well_cannot_be_stopped_any_more() -> None:
    play = Play(2).exits(0).exits(1).ends(0)
    assert [stop.nodes for stop in play.do("stop_asked", False).of(StopHosts)] == [(1,)]
    play.do("agent_event", 1, Ended(time=0.0, left=0), 0.0)
    play.do("interrupt").pass_time(RUN.log_grace + 1, heard=(0, 1))
    assert (play.outcome.status, play.outcome.exit_code) == ("succeeded", 0)


def test_an_interrupt_before_the_start_is_a_stop_not_a_fault() -> None:
    play = Play(2).do("interrupt")
    play.actions = play.machine.not_started((0, 1), "ended before it had started", 0.0, play.now)
    assert (play.outcome.status, play.outcome.exit_code) == ("stopped", 123)


def told(play: Play, node: int) -> Play:
    return play.exits(node, 143, signal=15, told=True)


def test_ranks_that_only_their_engine_ended_are_no_success() -> None:
    play = told(Play(2), 1)
    assert play.of(StopHosts)
    play.do("agent_event", 1, EngineExited(time=0.0, code=1, told=True), 1000.0)
    outcome = play.ends(1).ends(0).outcome
    assert (outcome.status, outcome.exit_code) == ("failed", 1)
    assert outcome.cause is not None
    assert (outcome.cause.host, outcome.cause.rank) == ("h1", None)
    assert outcome.cause.message == "the engine ended its ranks, was it sent a signal?"


def test_peers_that_saw_an_engine_end_its_ranks_do_not_hide_it() -> None:
    play = told(Play(3), 1)
    gone = RankError(type="RuntimeError", message="[pair.cc:553] Connection closed by peer", time=1000.0)
    play.exits(2, 1, error=gone).exits(0, 1, error=gone)
    play.do("agent_event", 2, EngineExited(time=0.0, code=1, told=True), 1000.2)
    play.do("agent_event", 1, EngineExited(time=0.0, code=1, told=True), 1000.5)
    outcome = play.ends(1).ends(0).ends(2).outcome
    assert outcome.cause is not None
    assert (outcome.cause.host, outcome.cause.rank, outcome.exit_code) == ("h1", None, 1)


@pytest.mark.parametrize("engine", [True, False], ids=["the engine ended one first", "its rank failed first"])
def test_a_peer_on_the_same_host_explains_an_engine_only_before_it_ended_others(engine: bool) -> None:
    play = Play(2)
    play.machine.nodes[1].ranks = (1, 2)
    at = 1000.0
    gone = RankError(type="RuntimeError", message="[pair.cc:553] Connection closed by peer", time=at)
    second = RankExited(
        time=at, rank=2, code=1, signal=None, started=at, ended=at, peak_memory=0, told=False, error=gone
    )
    told(play, 1)
    play.do("agent_event", 1, second, at + 0.1 if engine else at - 0.1).exits(0, 1, error=gone)
    play.do("agent_event", 1, EngineExited(time=0.0, code=1, told=True), at + 0.5)
    cause = play.ends(1).ends(0).outcome.cause
    assert cause is not None
    assert ("engine" in cause.message, cause.host) == ((True, "h1") if engine else (False, "h1"))


@pytest.mark.parametrize("ordered", [False, True], ids=["", "after an order"])
def test_an_engine_that_says_it_was_sent_a_signal_is_the_cause_whatever_its_ranks_saw(ordered: bool) -> None:
    play = Play(2)
    play.machine.nodes[1].ranks = (1, 2)
    if ordered:
        play.do("agent_event", 1, Stopping(time=0.0, reason="h0 rank 0: peer gone", grace=30.0), 0.0)
    gone = RankError(type="RuntimeError", message="[pair.cc:553] Connection closed by peer", time=999.0)
    second = RankExited(
        time=999.0,
        rank=2,
        code=1,
        signal=None,
        started=0.0,
        ended=999.0,
        peak_memory=0,
        told=False,
        error=gone,
    )
    play.do("agent_event", 1, second, 999.0).exits(0, 1, error=gone)
    told(play, 1)
    play.do("agent_event", 1, EngineExited(time=0.0, code=1, told=True, sent=15), 1000.5)
    cause = play.ends(1).ends(0).outcome.cause
    assert cause is not None
    assert (cause.message, cause.host, cause.rank) == ("the engine was sent SIGTERM", "h1", None)


def test_an_engine_that_was_killed_is_the_cause_not_its_ranks() -> None:
    play = Play(2).exits(1, 137, signal=9, told=True)
    play.do("agent_event", 1, EngineExited(time=0.0, code=137, told=False), 1000.0)
    outcome = play.ends(1).ends(0).outcome
    assert (outcome.status, outcome.exit_code) == ("failed", 137)
    assert outcome.cause is not None
    assert outcome.cause.message == "the engine was killed by SIGKILL"


def test_the_end_of_an_engine_after_an_order_is_no_news() -> None:
    play = Play(2).do("agent_event", 1, Stopping(time=0.0, reason="stopped by the operator", grace=30.0), 0.0)
    assert told(play, 1).of(StopHosts) == []
    assert play.do("agent_event", 1, EngineExited(time=0.0, code=1, told=True), 0.0).actions == []
    play.do("stop_asked", False).ends(0).ends(1)
    assert play.outcome.status == "stopped"


def test_a_lost_host_is_as_old_as_its_last_word() -> None:
    play = Play(3).do("link_lost", 1, "reset").unopened(1, "timed out")
    play.pass_time(RUN.heartbeat_timeout / 2, heard=(0, 2))
    play.exits(2, 1, error=RankError(type="KeyError", message="'x'", time=0.0))
    play.pass_time(RUN.heartbeat_timeout / 2 + 1, heard=(0, 2))
    play.do("probed", 1, False).pass_time(1, heard=(0, 2))
    outcome = play.ends(0).ends(2).outcome
    assert (outcome.status, outcome.exit_code) == ("lost", 121)


def test_a_host_that_tells_of_anothers_rank_blames_itself() -> None:
    event = RankExited(
        time=0.0, rank=0, code=1, signal=None, started=0.0, ended=0.0, peak_memory=0, told=False
    )
    outcome = Play(2).do("agent_event", 1, event, 1000.0).exits(0).ends(0).ends(1).outcome
    assert (outcome.status, outcome.exit_code) == ("error", 125)
    assert outcome.cause is not None
    assert (outcome.cause.host, outcome.cause.rank) == ("h1", None)


def test_a_host_that_does_not_say_its_end_is_waited_for_no_longer_than_its_grace_and_a_while() -> None:
    play = Play(2).do("interrupt").ends(1)
    play.pass_time(RUN.stop_grace + RUN.confirm_timeout - 1, heard=(0,))
    assert play.machine.state is RunState.STOPPING
    play.pass_time(2, heard=(0,))
    assert play.outcome.left_behind == {"h0": None, "h1": 0}
    assert (play.outcome.status, play.machine.nodes[0].state) == ("stopped", HostState.UNCONFIRMED)


def test_a_second_interrupt_shortens_that_wait() -> None:
    play = Play(1).do("interrupt").pass_time(1, heard=(0,)).do("interrupt")
    play.pass_time(RUN.confirm_timeout + 1, heard=(0,))
    assert play.outcome.exit_code == 123


def test_an_interrupt_a_while_after_now_waits_for_nobody() -> None:
    play = Play(3).do("interrupt").do("interrupt").do("interrupt").ends(2)
    play.do("agent_event", 1, Ended(time=0.0, left=0), 0.0)
    play.pass_time(RUN.patience + 1, heard=(0, 1))
    assert play.machine.state is RunState.STOPPING, "three at once are no more than two"
    assert [each.text for each in play.do("interrupt").of(Say)] == ["no host is waited for any more"]
    play.pass_time(1, heard=(0, 1))
    assert [node.state for node in play.machine.nodes] == [
        HostState.UNCONFIRMED,
        HostState.COMPLETE,
        HostState.COMPLETE,
    ]
    assert play.outcome.left_behind == {"h0": None, "h1": 0, "h2": 0}
    assert (play.outcome.status, play.outcome.exit_code) == ("stopped", 123)


def _logs_flow(play: Play, seconds: float) -> RunState:
    for _ in range(int(seconds)):
        play.do("progressed", 0).pass_time(1, heard=(0,))
    return play.machine.state


def test_logs_that_still_come_after_ctrl_c_have_its_grace_and_a_while() -> None:
    play = Play(1).do("interrupt").exits(0, 143, told=True)
    play.do("agent_event", 0, Ended(time=0.0, left=0), 0.0)
    assert _logs_flow(play, RUN.stop_grace + RUN.log_grace - 2) is RunState.STOPPING
    assert _logs_flow(play, 4) is RunState.OVER
    assert play.machine.nodes[0].state is HostState.COMPLETE


def test_a_host_that_ends_late_after_now_has_a_while_for_its_logs() -> None:
    play = Play(1).do("interrupt").do("interrupt").pass_time(RUN.confirm_timeout - 2, heard=(0,))
    play.exits(0, 137, told=True).do("agent_event", 0, Ended(time=0.0, left=0), 0.0)
    assert _logs_flow(play, RUN.log_grace - 2) is RunState.STOPPING
    assert _logs_flow(play, 4) is RunState.OVER


def test_logs_that_still_come_after_a_failure_are_waited_for_until_somebody_waits_for_the_end() -> None:
    play = Play(1).exits(0, 7)
    play.do("agent_event", 0, Ended(time=0.0, left=0), 0.0)
    assert _logs_flow(play, 200) is RunState.STOPPING
    assert "5 s; again = now" in play.do("interrupt").of(Say)[0].text
    assert _logs_flow(play, RUN.log_grace - 2) is RunState.STOPPING
    assert _logs_flow(play, 4) is RunState.OVER


def test_logs_that_bring_nothing_new_are_waited_for_no_longer() -> None:
    play = Play(1).exits(0).do("agent_event", 0, Ended(time=0.0, left=0), 0.0)
    play.pass_time(RUN.log_timeout + 1, heard=(0,))
    assert play.outcome.status == "succeeded"


def test_a_new_channel_is_no_life_until_something_comes_through_it() -> None:
    """A login that hangs in the start-up files of a shell: the host is reached again and again."""
    play = Play(2).do("link_lost", 1, "closed")
    for _ in range(20):
        play.do("linked", 1).pass_time(RUN.heartbeat_timeout + 1, heard=(0,)).do("probed", 1, True)
        play.pass_time(1, heard=(0,))
        if play.machine.nodes[1].state is HostState.LOST:
            break
    assert play.machine.nodes[1].state is HostState.LOST
    assert play.now - 100.0 < 2 * RUN.lease_attached


def test_a_host_that_is_only_slow_to_answer_is_not_lost_though_nobody_else_can_be_asked() -> None:
    """Its machine takes connections, but on a busy one what comes after that takes its time."""
    play = Play(2).exits(0, 1).ends(0).do("link_lost", 1, "closed")
    play.do("linked", 1).pass_time(RUN.heartbeat_timeout + 1, heard=(0,))
    play.unopened(1, "the time was over during the login", "deadline").pass_time(1, heard=(0,))
    play.do("linked", 1).do("link_lost", 1, "closed").pass_time(RUN.heartbeat_timeout + 1, heard=(0,))
    assert not play.machine.nodes[1].over
    play.unopened(1, "refused").pass_time(1, heard=(0,))
    assert play.machine.nodes[1].state is HostState.LOST


@pytest.mark.parametrize(("exits", "status"), [(True, "succeeded"), (False, "error")])
def test_an_agent_that_is_gone_after_its_ranks_ended_well_takes_no_success_away(
    exits: bool, status: str
) -> None:
    play = Play(1)
    if exits:
        play.exits(0)
    play.machine.agent_gone(0, relay.AgentGone(left=0), 1000.0, play.now)
    assert play.do("complete", 0).outcome.status == status


def test_what_may_be_of_the_run_and_bears_no_mark_is_counted_and_named() -> None:
    play = Play(1)
    gone = relay.AgentGone(left=0, strays=(LeftProcess(4711, "sleep 3600"),))
    actions = play.machine.agent_gone(0, gone, 1000.0, play.now)
    (said,) = [each.text for each in actions if isinstance(each, Say) and "4711" in each.text]
    assert said.startswith("h0: 4711 sleep 3600: ")
    assert said.endswith("clusterctl exec -i h0 -- kill 4711")
    assert play.do("complete", 0).outcome.left_behind == {"h0": 1}


def test_a_lost_host_bears_the_time_of_its_last_word() -> None:
    play = Play(2).pass_time(30, heard=(0, 1)).do("link_lost", 1, "closed").unopened(1, "refused")
    play.pass_time(RUN.heartbeat_timeout + 1, heard=(0,)).do("probed", 1, False)
    play.pass_time(1, heard=(0,))
    (failure,) = play.machine.verdict.failures
    assert (failure.cause.kind, failure.at) == ("lost", 1030.0)


def test_ctrl_z_for_a_while_loses_no_host() -> None:
    play = Play(2).pass_time(2, heard=(0, 1))
    play.now += 17
    assert play.do("tick").actions == []
    play.pass_time(RUN.heartbeat_timeout - 1)
    assert play.actions == []
    assert {state.state for state in play.machine.nodes} == {HostState.LINKED}


def test_ctrl_z_for_longer_than_a_lease_is_the_operators_doing() -> None:
    play = Play(2).pass_time(2, heard=(0, 1))
    play.now += 90
    play.do("tick").do("heard", 0).do("agent_event", 0, LeaseOver(time=0.0), 0.0)
    assert play.of(StopHosts)
    play.exits(0, 143, told=True).exits(1, 143, told=True).ends(0).ends(1)
    assert (play.outcome.status, play.outcome.exit_code) == ("stopped", 123)
    assert play.outcome.cause is not None
    assert "stood still for 90 s" in play.outcome.cause.message


def test_standing_still_is_the_operators_doing_with_a_lease_shorter_than_a_silence_that_counts() -> None:
    play = Play(2)
    play.machine = Machine(plan(2), play.now, 1000.0, replace(RUN, lease_attached=6.0))
    play.pass_time(2, heard=(0, 1))
    play.now += 8
    play.do("tick").do("heard", 0).do("agent_event", 0, LeaseOver(time=0.0), 0.0)
    play.exits(0, 143, told=True).exits(1, 143, told=True).ends(0).ends(1)
    assert (play.outcome.status, play.outcome.exit_code) == ("stopped", 123)


def test_a_short_standstill_after_a_long_one_does_not_hide_it() -> None:
    play = Play(2).pass_time(2, heard=(0, 1))
    for gap in (90, 7):
        play.now += gap
        play.do("tick")
    play.do("heard", 0).do("agent_event", 0, LeaseOver(time=0.0), 0.0)
    play.exits(0, 143, told=True).exits(1, 143, told=True).ends(0).ends(1)
    assert (play.outcome.status, play.outcome.exit_code) == ("stopped", 123)


@pytest.mark.parametrize("victim_first", [True, False])
def test_a_lease_that_ran_out_without_a_controller_is_no_hosts_fault(victim_first: bool) -> None:
    """Whoever tells first: the host whose lease was over, or the one whose rank saw its peer go then."""
    play = Play(2)
    play.machine.begin(play.now, linked=False)
    gone = RankError(type="RuntimeError", message="[pair.cc:553] Connection closed by peer", time=1000.0)
    if victim_first:
        play.exits(1, 1, error=gone)
    play.do("agent_event", 0, LeaseOver(time=0.0), 1000.0)
    if not victim_first:
        play.exits(1, 1, error=gone)
    play.exits(0, 143, told=True).ends(0).ends(1)
    assert (play.outcome.status, play.outcome.exit_code) == ("stopped", 123)
    cause = play.outcome.cause
    assert cause is not None and (cause.kind, cause.host) == ("operator", "")
    assert cause.message.startswith("no controller was at work for longer than the lease of 60 s")


def test_a_slow_way_to_hosts_whose_leases_had_run_out_blames_none() -> None:
    play = Play(2)
    play.machine.begin(play.now, linked=False)
    play.pass_time(RUN.lease_attached - 1)
    for node in (0, 1):
        play.do("linked", node).do("heard", node)
    play.pass_time(3, heard=(0, 1)).do("agent_event", 0, LeaseOver(time=0.0), 1000.0)
    play.exits(0, 143, told=True).exits(1, 143, told=True).ends(0).ends(1)
    assert (play.outcome.status, play.outcome.exit_code) == ("stopped", 123)


def test_what_failed_before_a_lease_ran_out_is_the_cause_all_the_same() -> None:
    play = Play(2)
    play.machine.begin(play.now, linked=False)
    play.do("agent_event", 0, LeaseOver(time=0.0), 1060.0)
    play.exits(1, 7).exits(0, 143, told=True).ends(0).ends(1)
    assert (play.outcome.status, play.outcome.exit_code) == ("failed", 7)


def test_a_host_that_was_cut_off_until_its_lease_was_over_is_lost() -> None:
    play = Play(2)
    play.machine.begin(play.now, linked=False)
    play.pass_time(80, heard=(0, 1)).do("agent_event", 0, LeaseOver(time=0.0), 1080.0)
    play.exits(0, 143, told=True).exits(1, 143, told=True).ends(0).ends(1)
    assert (play.outcome.status, play.outcome.cause and play.outcome.cause.host) == ("lost", "h0")


def test_hosts_that_end_while_this_machine_sleeps_are_not_late() -> None:
    play = Play(1).exits(0).pass_time(1, heard=(0,))
    play.now += RUN.stop_grace + 10
    assert not [action for action in play.machine.tick(play.now) if isinstance(action, StopHosts)]


def test_a_stop_that_stands_still_gives_hosts_their_time_all_the_same() -> None:
    play = Play(1).do("interrupt").pass_time(1, heard=(0,))
    play.now += 1000
    play.do("tick")
    assert play.of(Finish) == []
    play.exits(0, 143, told=True).ends(0)
    assert play.outcome.left_behind == {"h0": 0}


def test_a_host_that_pdsh_does_not_reach_is_the_cause() -> None:
    play = Play(2)
    play.actions = play.machine.engine_failed("pdsh could not", 1000.0, play.now, 1)
    play.ends(0).ends(1)
    assert play.outcome.cause is not None
    assert (play.outcome.cause.host, play.outcome.exit_code) == ("h1", 125)
    assert play.outcome.cause.log == "logs/deepspeed.log"
