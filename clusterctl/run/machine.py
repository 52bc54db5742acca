"""Decides what a run does next. ``now`` is an argument: no clock, no thread, no I/O.

The gang rule lives here: all ranks on all hosts, or none. So does the judgement of silence, which is not
death: a host is lost only when the controller cannot reach it *and* another host cannot either, and when all
are silent at once it is the controller that is sick.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from clusterctl.messages.events import (
    AgentEvent,
    Ended,
    EngineExited,
    LeaseOver,
    NodeFailed,
    RankExited,
    Refused,
    Stopping,
)
from clusterctl.plan.model import LaunchPlan
from clusterctl.run import cause as causes
from clusterctl.settings import RUN, RunDefaults
from clusterctl.store.outcome import (
    EXIT_INTERNAL,
    EXIT_LOST,
    EXIT_REFUSED,
    EXIT_STOPPED,
    EXIT_TIMEOUT,
    Cause,
    CauseKind,
    Outcome,
    Status,
)


class StopHosts(msgspec.Struct, frozen=True):
    """Tell these nodes to stop: TERM now, KILL after ``grace`` seconds."""

    nodes: tuple[int, ...]
    grace: float
    reason: str


class Reconnect(msgspec.Struct, frozen=True):
    """Drop the channel to a node and open a new one."""

    node: int


class IndirectProbe(msgspec.Struct, frozen=True):
    """Ask ``prober`` whether ``node`` answers over the training network."""

    prober: int
    node: int


class Say(msgspec.Struct, frozen=True):
    """One line for the operator and for ``events.jsonl``."""

    text: str


class Finish(msgspec.Struct, frozen=True):
    outcome: Outcome


Action = StopHosts | Reconnect | IndirectProbe | Say | Finish


@dataclass
class _Node:
    host: str
    ranks: tuple[int, ...]
    heard: float
    linked: bool = True
    retry_at: float | None = None
    tries: int = 0
    unreachable: bool = False
    reachable: bool | None = None
    asked: float | None = None
    """When another host was asked last."""
    ordered: bool = False
    """Its agent was told to stop before any of its ranks had failed."""
    ended: bool = False
    complete: bool = False
    lost: bool = False
    left: int | None = None
    exits: dict[int, int] = field(default_factory=dict)
    early: dict[int, float] = field(default_factory=dict)

    @property
    def over(self) -> bool:
        return self.complete or self.lost


class Machine:
    """One run. Feed it what happened; do what it returns.

    ``now`` is monotonic seconds; ``epoch`` is the wall clock at the first ``now``; ``at`` is wall clock.
    """

    def __init__(self, plan: LaunchPlan, now: float, epoch: float, defaults: RunDefaults = RUN) -> None:
        self.plan = plan
        self.defaults = defaults
        self.started = now
        self.epoch = epoch - now
        self.ticked = now
        self.nodes = [_Node(node.host, node.ranks, now) for node in plan.nodes]
        self.failures: list[causes.Failure] = []
        self.collateral: list[Cause] = []
        self.stopping: Status | None = None
        self.grace = 0.0
        self.stop_cause: Cause | None = None
        self.interrupts = 0
        self.finished = False

    def begin(self, now: float) -> None:
        """The start is over: nobody was silent until now."""
        self.ticked = now
        for state in self.nodes:
            state.heard = now

    def heard(self, node: int, now: float) -> list[Action]:
        """Anything at all arrived from a node."""
        state = self.nodes[node]
        state.heard = now
        state.reachable = state.asked = None
        state.unreachable = False
        return []

    def linked(self, node: int, now: float) -> list[Action]:
        """A new channel to a node stands."""
        state = self.nodes[node]
        state.linked, state.retry_at, state.tries = True, None, 0
        actions: list[Action] = [Say(f"{state.host}: connected again, nothing was lost")]
        if self.stopping:
            actions.append(StopHosts((node,), self.grace, "the run is stopping"))
        return actions + self.heard(node, now)

    def link_lost(self, node: int, reason: str, now: float) -> list[Action]:
        """A channel broke, or a try to open one failed. The run goes on meanwhile."""
        state = self.nodes[node]
        if state.over:
            return []
        first_time = state.linked
        state.linked = False
        state.unreachable = not first_time
        state.retry_at = now + 0.5 * 2 ** min(state.tries, 4)
        state.tries += 1
        if not first_time:
            return []
        return [Say(f"{state.host}: the connection broke ({reason}); the run goes on there, reconnecting")]

    def absent(self, node: int, now: float) -> list[Action]:
        """The host answers but knows nothing of the run: it was rebooted or its disk was cleared."""
        return self._lose(node, "the host no longer knows this run (rebooted?)", now)

    def probed(self, node: int, alive: bool, now: float) -> list[Action]:
        """What another host found over the training network."""
        self.nodes[node].reachable = alive
        return []

    def agent_event(self, node: int, event: AgentEvent, at: float, now: float) -> list[Action]:
        """One line of a node's ``events.jsonl``; ``at`` is its time in the controller's clock."""
        state = self.nodes[node]
        match event:
            case RankExited():
                return self._rank_exit(node, event, at, now)
            case Ended():
                state.ended, state.left = True, event.left
                if not self.stopping and set(state.ranks) - set(state.exits):
                    return self._fail(node, "internal", "the agent ended before its ranks did", at)
            case Stopping():
                state.ordered = state.ordered or not any(state.exits.values())
            case Refused():
                self.stop_cause = Cause(
                    kind="preflight", host=state.host, node_rank=node, message=event.reason
                )
                return self._stop("refused", self.stop_cause.message, 0.0)
            case LeaseOver() if not self.stopping:
                return self._fail(node, "lost", "the host stopped its ranks: no word from the controller", at)
            case NodeFailed():
                return self._fail(node, "internal", event.reason, at)
            case EngineExited() if event.code:
                return self._engine_exit(node, event, at)
        return []

    def not_started(self, never: tuple[int, ...], message: str, at: float, now: float) -> list[Action]:
        """Some host could not take its part. On ``never`` nothing was started; the others are stopped."""
        for node in never:
            state = self.nodes[node]
            state.ended = state.complete = True
            state.left = 0
        return self._fail(None, "internal", message, at) + self._finish_if_over(now)

    def never_started(self, node: int, now: float) -> list[Action]:
        """A host knows nothing of the run because its controller ended before it had started there."""
        message = "the controller ended before the run had started everywhere"
        return self.not_started((node,), message, self.epoch + now, now)

    def engine_failed(self, message: str, at: float, now: float) -> list[Action]:
        """DeepSpeed's launcher on the controller ended before its time."""
        return self._fail(None, "internal", message, at, causes.Weight.DOUBTFUL)

    def node_failed(self, node: int, what: str, at: float, now: float) -> list[Action]:
        """A relay could not carry out an order."""
        return self._fail(node, "internal", what, at, causes.Weight.DOUBTFUL)

    def agent_gone(self, node: int, left: int, at: float, now: float) -> list[Action]:
        """The agent of a node was killed; the relay has swept what it left."""
        state = self.nodes[node]
        state.ended, state.left = True, left
        return self._fail(node, "internal", "the agent on this host was killed", at)

    def complete(self, node: int, now: float) -> list[Action]:
        """Every log byte of a node has arrived."""
        self.nodes[node].complete = True
        return self._finish_if_over(now)

    def interrupt(self, now: float) -> list[Action]:
        """Ctrl-C: the first lets scripts save, the second means now."""
        self.interrupts += 1
        return self._operator(now=self.interrupts > 1)

    def stop_asked(self, at_once: bool, now: float) -> list[Action]:
        """`clusterctl stop` from another terminal."""
        return self._operator(now=at_once)

    def tick(self, now: float) -> list[Action]:
        """Time has passed. Call about twice a second."""
        gap = now - self.ticked
        self.ticked = now
        if gap > 5.0:  # this machine slept: nobody else was silent
            for state in self.nodes:
                state.heard += gap
                state.reachable = state.asked = None
        actions: list[Action] = []
        limit = self.plan.time_limit
        if limit is not None and now - self.started > limit and not self.stopping:
            text = f"the time limit of {limit:g} s was reached"
            self.stop_cause = Cause(kind="timeout", message=text)
            actions += self._stop("timeout", text, self.defaults.stop_grace)
        actions += self._watch_links(now)
        actions += self._watch_early_ends(now)
        return actions + self._finish_if_over(now)

    def _watch_links(self, now: float) -> list[Action]:
        actions: list[Action] = []
        waiting = [node for node, state in enumerate(self.nodes) if not state.over]
        silent = [n for n in waiting if now - self.nodes[n].heard > self.defaults.heartbeat_timeout]
        for node in waiting:
            state = self.nodes[node]
            if state.linked and node in silent:
                actions += self.link_lost(node, "no heartbeat", now)
                state.retry_at = now
            if not state.linked and state.retry_at is not None and now >= state.retry_at:
                state.retry_at = None
                actions.append(Reconnect(node))
        if silent and len(silent) == len(waiting) and len(waiting) == len(self.nodes):
            quiet = min(now - self.nodes[node].heard for node in silent)
            if quiet > self.defaults.lease_attached + self.defaults.heartbeat_timeout:
                for node in silent:
                    actions += self._lose(node, "no host answered until the lease ran out", now)
            return actions
        for node in silent:
            actions += self._judge_silence(node, next((n for n in waiting if n not in silent), None), now)
        return actions

    def _judge_silence(self, node: int, prober: int | None, now: float) -> list[Action]:
        state, defaults = self.nodes[node], self.defaults
        if now - state.heard > defaults.lease_attached + defaults.heartbeat_timeout + self.grace:
            # Whatever else it answers, its agent has had no word for longer than a lease.
            return self._lose(node, "no word from it until its lease had run out", now)
        if not state.unreachable:
            return []
        if state.reachable is False:
            return self._lose(node, "neither the controller nor another host can reach it", now)
        if prober is None:
            return self._lose(node, "the controller cannot reach it", now)
        if state.asked is None or now - state.asked > defaults.heartbeat_timeout:
            state.asked, state.reachable = now, None
            return [IndirectProbe(prober, node)]
        return []

    def _watch_early_ends(self, now: float) -> list[Action]:
        if self.stopping:
            return []
        actions: list[Action] = []
        for state in self.nodes:
            for rank, since in list(state.early.items()):
                if now - since > self.defaults.early_exit_note:
                    del state.early[rank]
                    running = self.plan.world_size - sum(len(each.exits) for each in self.nodes)
                    if running:
                        actions.append(
                            Say(f"{state.host}: rank {rank} ended with 0 while {running} ranks still run")
                        )
        return actions

    def _rank_exit(self, node: int, event: RankExited, at: float, now: float) -> list[Action]:
        state = self.nodes[node]
        rank, code = event.rank, event.code
        state.exits[rank] = code
        if code == 0:
            state.early[rank] = now
            return []
        log = f"logs/{state.host}/rank-{rank}.log"
        failure = causes.from_rank_exit(event, host=state.host, node_rank=node, at=at, log=log)
        if event.told and state.ordered:
            self.collateral.append(failure.cause)
            return []
        return self._take_failure(failure, f"{state.host} rank {rank}: ")

    def _engine_exit(self, node: int, event: EngineExited, at: float) -> list[Action]:
        """News only where nobody had ordered it and no rank had failed by itself: engines end with those."""
        by_itself = any(failure.weight < causes.Weight.TOLD for failure in self.failures)
        if by_itself or self.nodes[node].ordered:
            return []
        host = self.nodes[node].host
        failure = causes.from_engine_exit(event, host=host, node_rank=node, at=at)
        return self._take_failure(failure, f"{host}: ")

    def _fail(
        self,
        node: int | None,
        kind: CauseKind,
        message: str,
        at: float,
        weight: causes.Weight = causes.Weight.OWN,
    ) -> list[Action]:
        state = self.nodes[node] if node is not None else None
        cause = Cause(
            kind=kind,
            message=message,
            host=state.host if state else "",
            node_rank=node,
            log=f"logs/{state.host}/agent.log" if state and kind == "internal" else "",
        )
        failure = causes.Failure(cause=cause, at=at, weight=weight, seen_late=kind != "lost")
        return self._take_failure(failure, f"{state.host}: " if state else "")

    def _take_failure(self, failure: causes.Failure, where: str) -> list[Action]:
        """Any failure stops every host, also one that came after an order: the order may have been the
        engine's own."""
        if self.stopping in ("stopped", "timeout", "refused"):
            self.collateral.append(failure.cause)
            return []
        self.failures.append(failure)
        return self._stop("failed", where + failure.cause.message, self.defaults.failure_grace)

    def _lose(self, node: int, why: str, now: float) -> list[Action]:
        state = self.nodes[node]
        if state.over:
            return []
        state.lost = True
        return self._fail(node, "lost", f"lost: {why}", self.epoch + state.heard)

    def _operator(self, *, now: bool) -> list[Action]:
        if self.stopping and not now:
            return []
        if not self.stopping:
            self.stop_cause = Cause(kind="operator", message="stopped by the operator")
        grace = 0.0 if now else self.defaults.stop_grace
        return self._stop(self.stopping or "stopped", "stopped by the operator", grace, again=True)

    def _stop(self, status: Status, reason: str, grace: float, *, again: bool = False) -> list[Action]:
        if self.stopping and not again:
            return []
        self.stopping = self.stopping or status
        self.grace = grace
        running = tuple(node for node, state in enumerate(self.nodes) if not state.over)
        return [Say(reason), StopHosts(running, grace, reason)] if running else [Say(reason)]

    def _finish_if_over(self, now: float) -> list[Action]:
        if self.finished or not all(state.over for state in self.nodes):
            return []
        self.finished = True
        return [Finish(self._outcome(now))]

    def _outcome(self, now: float) -> Outcome:
        status, code, cause = self._verdict()
        in_time = sorted(self.failures, key=lambda failure: failure.at)
        others = [failure.cause for failure in in_time if failure.cause != cause]
        return Outcome(
            run=self.plan.run,
            status=status,
            exit_code=code,
            cause=cause,
            collateral=(*others, *self.collateral),
            left_behind={state.host: None if state.lost else state.left for state in self.nodes},
            seconds=round(now - self.started, 3),
        )

    def _first_failure(self) -> Cause:
        limits = self.defaults
        return causes.first(self.failures, clock=limits.clock_error, late=limits.noticed_late).cause

    def _verdict(self) -> tuple[Status, int, Cause | None]:
        if self.stop_cause and self.stopping == "refused":
            return "refused", EXIT_REFUSED, self.stop_cause
        if self.stop_cause and self.stopping == "timeout":
            return "timeout", EXIT_TIMEOUT, self.stop_cause
        if self.stop_cause and self.stopping == "stopped":
            return "stopped", EXIT_STOPPED, self.stop_cause
        if not self.failures:
            return "succeeded", 0, None
        cause = self._first_failure()
        if cause.kind == "lost":
            return "lost", EXIT_LOST, cause
        if cause.kind == "internal":
            return "error", EXIT_INTERNAL, cause
        return "failed", cause.exit_code or 1, cause
