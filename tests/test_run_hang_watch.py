"""When a run is suspected to hang, with a clock in the test's hand and counters of the test's making."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, Literal

import msgspec
import pytest

from clusterctl.advise.hang_verdict import HangVerdict, Suspect
from clusterctl.messages.evidence import HostEvidence, RankActivity
from clusterctl.messages.relay import Activity
from clusterctl.plan.model import Hangs, LaunchPlan
from clusterctl.run.actions import Keep, LookAt, Observe, Say, StopHosts
from clusterctl.run.hang_signs import signs
from clusterctl.run.hang_watch import HangWatch
from clusterctl.run.machine import Machine
from clusterctl.run.states import HostRecord
from clusterctl.settings import HANG
from clusterctl.store.outcome import Outcome
from tests.test_run_machine import plan

HUNG = HangVerdict(
    kind="stopped",
    stop=True,
    sentence="rank 1 is stopped",
    reason="nothing moved",
    suspects=(Suspect(rank=1, host="h1", node_rank=1),),
)
AT_WORK = msgspec.structs.replace(HUNG, kind="works", stop=False, sentence="rank 0 works", suspects=())


def policy(timeout: float, *, learned: bool = False, action: Literal["stop", "report"] = "stop") -> Hangs:
    return Hangs(timeout=timeout, learned=learned, action=action)


class Story:
    """Hosts with one rank each, which print, compute and wait as the test wants. Counters only grow."""

    def __init__(self, hangs: Hangs, hosts: int = 2, verdict: HangVerdict = HUNG) -> None:
        self.now = 1000.0
        self.plan = msgspec.structs.replace(plan(hosts), hangs=hangs)
        self.hosts = [
            HostRecord(node.host, node.ranks, heard=0.0, last_word=0.0, opened=0.0, progress=0.0)
            for node in self.plan.nodes
        ]
        self.judged: list[tuple[Any, Any, Any]] = []
        self.verdict = verdict
        self.watch = HangWatch(self.plan, self.hosts, self.now, judged_by=self.judge)
        self.watch.begin(self.now)
        self.counters = {
            node: {"printed": 0, "cpu": 0.0, "faults": 0, "exchanged": 0, "moved": 0, "written": 0}
            for node in range(hosts)
        }
        self.compilers: tuple[str, ...] = ()
        self.raised = False
        self.mute: set[int] = set()
        self.blind: set[int] = set()
        self.done: list[Any] = []

    def judge(
        self,
        first: Mapping[int, HostEvidence],
        second: Mapping[int, HostEvidence],
        of: LaunchPlan,
        exits: Any,
    ) -> HangVerdict:
        self.judged.append((dict(first), dict(second), dict(exits)))
        return self.verdict

    def rise(self, **by: float) -> None:
        """On every node."""
        for counters in self.counters.values():
            for name, value in by.items():
                counters[name] += value

    def live(self, seconds: float, **each_second: float) -> list[Any]:
        """Samples come once a second, a look is answered at once by whoever can. What was done meanwhile."""
        begun = len(self.done)
        for _ in range(int(seconds)):
            self.now += 1.0
            self.rise(**each_second)
            for node in set(self.counters) - self.mute:
                running = set(self.hosts[node].ranks) - set(self.hosts[node].exits)
                ranks = tuple(
                    RankActivity(
                        rank=rank,
                        compilers=self.compilers,
                        raised=self.raised,
                        **self.counters[node],  # type: ignore[arg-type]
                    )
                    for rank in sorted(running)
                )
                self.watch.activity(node, Activity(moment=self.now, ranks=ranks), self.now)
            for told in self.watch.tick(self.now):
                self.done.append(told)
                if isinstance(told, LookAt):
                    for node in set(told.nodes) - self.blind:
                        self.done += self.watch.evidence(node, HostEvidence(look=told.look, time=self.now))
        return self.done[begun:]

    def looks(self) -> list[LookAt]:
        return [each for each in self.done if isinstance(each, LookAt)]

    def said(self) -> list[str]:
        return [each.text for each in self.done if isinstance(each, Say)]


def test_silence_of_all_is_looked_at_twice_and_then_judged() -> None:
    story = Story(policy(60))
    assert story.live(30, exchanged=10_000, printed=3) == []
    assert story.live(58) == []
    story.live(60)
    assert [each.nodes for each in story.looks()] == [(0, 1), (0, 1)]
    assert [each.look for each in story.looks()] == [1, 2]
    assert story.done[-1] == HUNG
    ((first, second, exits),) = story.judged
    assert {first[0].look, first[1].look} == {1}
    assert {second[0].look, second[1].look} == {2}
    assert exits == {}
    kept = [each.name for each in story.done if isinstance(each, Keep)]
    assert sorted(kept) == [f"hang/look-{n}/h{host}.json" for n in (1, 2) for host in (0, 1)] + [
        "hang/verdict-1.json"
    ]


@pytest.mark.parametrize("before", [1, 2])
def test_looks_of_another_controller_stay_as_they_are(before: int) -> None:
    """Also where that one had looked only once."""
    story = Story(policy(60))
    story.watch.looked(before)
    story.live(120)
    assert [each.look for each in story.looks()] == [3, 4]
    assert "hang/verdict-2.json" in [each.name for each in story.done if isinstance(each, Keep)]


@pytest.mark.parametrize(
    "work",
    [
        {"printed": 1},
        {"exchanged": 5000},
        {"cpu": 1.0, "faults": 100},
        {"cpu": 0.02, "faults": 500},  # imports torch on a machine that has no core to spare
        {"moved": 1_000_000},
        {"written": 100},
    ],
)
def test_any_sign_of_work_is_enough(work: dict[str, float]) -> None:
    story = Story(policy(10))
    assert story.live(100, **work) == []


@pytest.mark.parametrize(
    "noise",
    [
        {"cpu": 1.0, "faults": 3},  # spins, as NCCL's kernels have the CPU do, and `while not flag: pass`
        {"exchanged": 1000},  # a keepalive between ranks
        {"moved": 20_000, "cpu": 0.02, "faults": 3},  # a thread that reads /proc for a dashboard
    ],
)
def test_noise_is_no_sign_of_work(noise: dict[str, float]) -> None:
    story = Story(policy(10))
    story.live(25, **noise)
    assert len(story.judged) == 1


def test_one_host_that_works_is_enough() -> None:
    story = Story(policy(10), hosts=3)
    for second in range(50):
        story.counters[2]["printed"] = second
        assert story.live(1) == []


def test_compilers_are_work_as_long_as_they_use_the_cpu() -> None:
    story = Story(policy(10))
    story.compilers = ("cicc", "ninja")
    assert story.live(100, cpu=1.0) == []
    story.live(30)
    assert story.looks()


def test_what_moves_between_the_looks_ends_the_suspicion() -> None:
    story = Story(policy(60))
    story.live(70)
    assert len(story.looks()) == 1
    story.live(10, printed=1)
    assert story.live(40) == []
    assert not story.judged


def test_what_the_look_itself_costs_is_no_sign_of_work() -> None:
    story = Story(policy(60))
    story.live(70)
    story.live(5, cpu=1.0, faults=5000, moved=900_000)
    story.live(40)
    assert len(story.judged) == 1


def test_a_verdict_that_does_not_stop_is_said_once_and_comes_back_later() -> None:
    story = Story(policy(20), verdict=AT_WORK)
    story.live(20 * 16)
    assert story.said() == ["rank 0 works"]
    assert 3 <= len(story.judged) <= 5
    assert HUNG not in story.done
    story.live(5, printed=1)
    before = len(story.judged)
    story.live(45)  # after a sign of work, the limit is the limit again
    assert len(story.judged) == before + 1


def test_report_never_stops() -> None:
    story = Story(policy(10, action="report"))
    story.live(200)
    assert story.judged
    assert HUNG not in story.done
    assert story.said() == ["rank 1 is stopped (it goes on: --on-hang report)"]


def test_the_default_limit_gives_way_to_the_run_s_own_cadence() -> None:
    story = Story(policy(600, learned=True), verdict=AT_WORK)
    story.live(60, exchanged=10_000)
    story.live(400)
    story.live(5, exchanged=10_000)
    story.live(1900)
    assert not story.looks()
    story.live(200)
    assert len(story.looks()) == 2


def test_a_limit_that_was_typed_is_that() -> None:
    story = Story(policy(30))
    for _ in range(5):
        story.live(5, exchanged=10_000)
        story.live(25)
    assert not story.looks()
    story.live(35)
    assert story.looks()


def test_where_a_script_has_been_ended_by_an_exception_nobody_waits_for_the_whole_limit() -> None:
    story = Story(policy(600, learned=True))
    story.live(30, exchanged=10_000)
    story.raised = True
    assert not story.live(HANG.raised - 2)
    story.live(30, exchanged=10_000)  # it saves, or sends its last figures
    assert not story.live(HANG.raised - 2)
    story.live(5)
    assert story.looks()


def test_first_steps_may_take_longer() -> None:
    story = Story(policy(600, learned=True))
    story.live(1150)
    assert not story.looks()
    story.live(100)
    assert story.looks()


def test_off_is_off() -> None:
    story = Story(policy(0))
    assert story.live(5000) == []
    assert story.watch.linked(0) == []


def test_a_new_channel_is_told_to_observe() -> None:
    assert Story(policy(600)).watch.linked(1) == [Observe(1, HANG.interval)]
    assert Story(policy(10)).watch.linked(1) == [Observe(1, 2.0)]


def test_nobody_is_suspected_while_a_host_is_reconnecting() -> None:
    story = Story(policy(10))
    story.hosts[1].linked = False
    story.mute = {1}
    assert story.live(100) == []
    story.hosts[1].linked, story.mute = True, set()
    story.live(20)
    assert story.looks()


def test_a_host_whose_samples_do_not_come_is_unknown_after_a_while() -> None:
    story = Story(policy(10))
    story.live(5, printed=1)
    story.mute = {1}
    assert story.live(40) == []
    story.live(60)
    assert story.judged
    # Where nobody tells anything, there is nothing to suspect.
    story = Story(policy(10))
    story.mute = {0, 1}
    assert story.live(500) == []


def test_a_host_that_shows_nothing_is_left_out() -> None:
    story = Story(policy(10))
    story.blind = {1}
    story.live(200)
    first, second, _ = story.judged[0]
    assert (set(first), set(second)) == ({0}, {0})


def test_a_look_that_comes_too_late_or_unasked_counts_for_nothing() -> None:
    story = Story(policy(60))
    assert story.watch.evidence(0, HostEvidence(look=1, time=0.0)) == []
    story.live(70)
    assert story.watch.evidence(0, HostEvidence(look=7, time=0.0)) == []
    assert story.watch.evidence(5, HostEvidence(look=1, time=0.0)) == []


def test_ranks_that_have_not_started_are_waited_for() -> None:
    story = Story(policy(10))
    late = Activity(moment=story.now, ranks=())
    for _ in range(100):
        story.now += 1
        story.watch.activity(0, late, story.now)
        story.watch.activity(1, late, story.now)
        assert story.watch.tick(story.now) == []


def test_a_rank_that_has_ended_is_not_asked_but_told() -> None:
    story = Story(policy(10))
    story.live(5, printed=1)
    story.hosts[1].exits[1] = 0
    story.live(40)
    assert story.looks()[0].nodes == (0,)
    assert story.judged[0][2] == {1: 0}
    story.hosts[0].exits[0] = 0
    before = len(story.done)
    story.live(100)
    assert len(story.done) == before


def test_this_machine_s_sleep_is_nobody_s_silence() -> None:
    story = Story(policy(60))
    story.live(50)
    story.now += 3600
    story.watch.stood_still(3600)
    assert story.live(8) == []
    story.live(60)
    assert len(story.judged) == 1


@pytest.mark.parametrize("seed", range(30))
def test_steps_well_below_the_limit_are_never_suspected(seed: int) -> None:
    """However late and bunched the samples of a loaded machine come."""
    dice = random.Random(seed)
    story = Story(policy(10))
    moment, printed = 0.0, 0
    due = [story.now] * 2
    for _ in range(4000):
        story.now += 0.5
        moment += 0.5
        printed = int(moment // 2)
        for node in (0, 1):
            if story.now >= due[node]:
                due[node] = story.now + dice.choice((2.0, 2.0, 3.0, 7.0, 25.0))
                rank = RankActivity(node, printed * 10, 0.0, 0, 0, 0)
                story.watch.activity(node, Activity(moment=moment, ranks=(rank,)), story.now)
        assert story.watch.tick(story.now) == []


def test_nonsense_in_samples_raises_nothing() -> None:
    empty = Activity(moment=0.0, ranks=())
    odd = Activity(moment=1e300, ranks=(RankActivity(5, -1, float("nan"), -7, 0, 0, 0, ("cicc",)),), rdma=-3)
    assert signs(odd, empty) == frozenset()
    assert signs(odd, odd) == frozenset()
    assert "ranks" in signs(empty, odd)


def test_the_machine_stops_a_run_that_hangs() -> None:
    hung = msgspec.structs.replace(plan(2), hangs=policy(10))
    machine = Machine(hung, 0.0, 5000.0)
    machine.begin(0.0)
    machine.hangs = HangWatch(hung, machine.nodes, 0.0, judged_by=lambda *_: HUNG)
    actions: list[Any] = []
    for second in range(1, 130):
        now = float(second)
        for node in (0, 1):
            machine.heard(node, now)
            sample = Activity(moment=now, ranks=(RankActivity(node, 0, 0.0, 0, 0, 0),))
            machine.hangs.activity(node, sample, now)
        actions += machine.tick(now)
    assert [each for each in actions if isinstance(each, StopHosts)] == [
        StopHosts((0, 1), 1.5, "rank 1 is stopped")
    ]
    for node in (0, 1):
        machine.nodes[node].ended, machine.nodes[node].left = True, 0
        actions += machine.complete(node, 131.0)
    outcome: Outcome = actions[-1].outcome
    assert (outcome.status, outcome.exit_code) == ("hung", 122)
    assert outcome.cause is not None
    assert (outcome.cause.kind, outcome.cause.host, outcome.cause.rank) == ("hang", "h1", 1)


def test_an_order_to_stop_ends_the_looking() -> None:
    hung = msgspec.structs.replace(plan(2), hangs=policy(10))
    machine = Machine(hung, 0.0, 5000.0)
    machine.begin(0.0)
    machine.hangs = HangWatch(hung, machine.nodes, 0.0, judged_by=lambda *_: HUNG)
    for second in range(1, 60):
        now = float(second)
        for node in (0, 1):
            machine.heard(node, now)
            sample = Activity(moment=now, ranks=(RankActivity(node, 0, 0.0, 0, 0, 0),))
            machine.hangs.activity(node, sample, now)
        if any(isinstance(each, LookAt) for each in machine.tick(now)):
            break
    assert machine.stop_asked(False, now)
    for second in range(1, 100):
        assert not any(isinstance(each, LookAt | HangVerdict) for each in machine.tick(now + second / 10))
    assert machine.stopping == "stopped"
