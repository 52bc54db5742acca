"""When a run seems to hang, and what is done to find out. Pure: ``now`` is an argument.

Suspicion costs two looks at the ranks, nothing else: only what they show can stop a run. It arises when no
host has shown any sign of work for the limit, and it ends at the first sign. Silence of a *host* is nobody's
hang: what a host does not tell is unknown.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from clusterctl.advise.hang import judge
from clusterctl.advise.hang_verdict import HangVerdict
from clusterctl.messages.evidence import HostEvidence
from clusterctl.messages.relay import Activity
from clusterctl.plan.model import LaunchPlan, attempt_suffix
from clusterctl.run.actions import Action, Keep, LookAt, Observe, Say
from clusterctl.run.hang_signs import OUTSIDE, signs
from clusterctl.run.states import HostRecord
from clusterctl.settings import HANG, HangDefaults

Look = Mapping[int, HostEvidence]
"""What hosts have shown, by node rank."""
Judge = Callable[[Look, Look, LaunchPlan, Mapping[int, int]], HangVerdict]
_PER_LIMIT = 5
"""So many samples fit into the limit at least."""


class HangWatch:
    """One run. Nodes are indices of ``hosts``, which the machine keeps; times are its own."""

    def __init__(
        self,
        plan: LaunchPlan,
        hosts: Sequence[HostRecord],
        now: float,
        *,
        defaults: HangDefaults = HANG,
        judged_by: Judge = judge,
    ) -> None:
        self._plan = plan
        self._hosts = hosts
        self._defaults = defaults
        self._judge = judged_by
        self._folder = f"hang{attempt_suffix(plan.attempt)}"
        self._base = plan.hangs.timeout
        self._samples: dict[int, Activity] = {}
        self._started: dict[int, set[int]] = {}
        """Ranks that run, by the newest sample of their node."""
        self._sampled: dict[int, float] = {}
        self._begun = now
        self._since = now
        """When a sign of work was seen last, anywhere."""
        self._longest = 0.0
        """The longest silence that the run came out of by itself."""
        self._steps = 0
        """How many samples have shown ranks at work together."""
        self._patience = 1.0
        """Grows with each suspicion that came to nothing, until the next sign of work."""
        self._said: set[tuple[str, tuple[int, ...]]] = set()
        self._looks = 0
        self._looking: _Looking | None = None
        self._after_look: set[int] = set()
        """Nodes whose next sample shows what looking at them has cost."""

    @property
    def on(self) -> bool:
        return self._base > 0

    @property
    def limit(self) -> float:
        """Seconds without a sign of work after which the run is suspected. A limit that the user has set is
        that; the default one gives way to what the run is used to. An exception shortens either."""
        limit = self._base
        if self._plan.hangs.learned:
            if self._steps < self._defaults.first_steps:
                limit *= self._defaults.first_steps_factor
            limit = max(limit, min(self._defaults.learned_factor * self._longest, self._defaults.longest))
        if any(rank.raised for sample in self._samples.values() for rank in sample.ranks):
            limit = min(limit, self._defaults.raised)
        return limit * self._patience

    def begin(self, now: float) -> None:
        """The start is over."""
        self._begun = self._since = now

    def looked(self, times: int) -> None:
        """Another controller has: what it has kept stays."""
        self._looks = times + times % 2  # two to a verdict

    def linked(self, node: int) -> list[Action]:
        """A new channel to a node stands: it is to tell what its ranks do."""
        if not self.on:
            return []
        return [Observe(node, min(self._defaults.interval, max(1.0, self._base / _PER_LIMIT)))]

    def stood_still(self, gap: float) -> None:
        """This machine did: nobody was silent in that time."""
        self._begun += gap
        self._since += gap
        self._sampled = {node: at + gap for node, at in self._sampled.items()}
        if self._looking is not None:
            self._looking.stood_still(gap)

    def activity(self, node: int, sample: Activity, now: float) -> None:
        """A node tells what its ranks have done so far."""
        before = self._samples.get(node)
        self._samples[node], self._sampled[node] = sample, now
        self._started[node] = {rank.rank for rank in sample.ranks}
        if before is None:
            self._since = max(self._since, now)
            return
        found = signs(before, sample)
        if self._looking is not None or node in self._after_look:
            found &= OUTSIDE
        if self._looking is None:
            self._after_look.discard(node)
        if found:
            self._moves(found, now)

    def evidence(self, node: int, found: HostEvidence) -> list[Action]:
        """What a node shows of its ranks; of no interest when it was not asked, or too late."""
        if self._looking is None or not self._looking.takes(node, found):
            return []
        host = self._hosts[node].host.replace("/", "_")
        return [Keep(f"{self._folder}/look-{found.look}/{host}.json", found)]

    def tick(self, now: float) -> list[Action | HangVerdict]:
        """Time has passed. A `HangVerdict` among what comes back: the run hangs, and is to be stopped."""
        if not self.on:
            return []
        running = self._running()
        if not running:
            self._looking = None
        elif not self._all_started():
            self._since = now
        elif self._looking is not None:
            return self._go_on_looking(now)
        elif self._is_silent(running, now):
            self._looking = _Looking(tuple(running))
            self._after_look = set(running)
            return self._look(now)
        return []

    def _moves(self, found: frozenset[str], now: float) -> None:
        if self._steps >= self._defaults.first_steps:
            self._longest = max(self._longest, now - self._since)
        if "network" in found or "output" in found:
            self._steps += 1
        self._since = now
        self._patience = 1.0
        self._looking = None

    def _running(self) -> list[int]:
        """Nodes that have ranks which have not ended."""
        return [node for node, host in enumerate(self._hosts) if not (host.over or host.ended or host.exited)]

    def _all_started(self) -> bool:
        """Whether every rank runs, or has ended: engines wait for all of their own before they start any.
        What a node does not tell does not hold anybody up for ever."""
        return all(
            self._started[node].issuperset(host.ranks)
            or set(host.ranks) <= self._started[node] | set(host.exits)
            for node, host in enumerate(self._hosts)
            if node in self._samples and not (host.over or host.ended)
        )

    def _is_silent(self, running: list[int], now: float) -> bool:
        if now - self._since < self.limit or not all(self._hosts[node].linked for node in running):
            return False
        telling = False
        for node in running:
            at = self._sampled.get(node, -math.inf)
            if at - self._since >= self.limit:
                telling = True
            elif now - max(at, self._begun) < max(self._defaults.unheard, self.limit):
                return False  # its word on this silence may still come
        return telling

    def _look(self, now: float) -> list[Action | HangVerdict]:
        assert self._looking is not None
        self._looks += 1
        self._looking.begin(self._looks, now)
        return [LookAt(self._looking.nodes, self._looks)]

    def _go_on_looking(self, now: float) -> list[Action | HangVerdict]:
        looking = self._looking
        assert looking is not None
        if looking.waits and now - looking.asked < self._defaults.look_timeout:
            return []
        if len(looking.looks) == 1:
            pause = min(self._defaults.look_pause, self._base)
            return self._look(now) if now - looking.asked >= pause else []
        self._looking = None
        self._patience *= 2
        first, second = looking.looks
        exits = {rank: code for host in self._hosts for rank, code in host.exits.items()}
        return self._decide(self._judge(first, second, self._plan, exits))

    def _decide(self, verdict: HangVerdict) -> list[Action | HangVerdict]:
        kept = Keep(f"{self._folder}/verdict-{self._looks // 2}.json", verdict)
        if verdict.stop and self._plan.hangs.action == "stop":
            return [kept, verdict]
        same = (verdict.kind, tuple(suspect.rank for suspect in verdict.suspects))
        if same in self._said:  # how much a rank has worked is another figure each time
            return [kept]
        self._said.add(same)
        return [kept, Say(verdict.sentence + " (it goes on: --on-hang report)" * verdict.stop)]


class _Looking:
    """Two looks at some nodes, one after the other."""

    def __init__(self, nodes: tuple[int, ...]) -> None:
        self.nodes = nodes
        self.asked = 0.0
        self.looks: list[dict[int, HostEvidence]] = []
        self._number = 0

    def begin(self, number: int, now: float) -> None:
        self._number, self.asked = number, now
        self.looks.append({})

    def takes(self, node: int, found: HostEvidence) -> bool:
        expected = found.look == self._number and node in self.nodes
        if expected:
            self.looks[-1][node] = found
        return expected

    @property
    def waits(self) -> bool:
        """Whether the present look is not yet complete."""
        return len(self.looks[-1]) < len(self.nodes)

    def stood_still(self, gap: float) -> None:
        self.asked += gap
