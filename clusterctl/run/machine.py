"""Decides what a run does next. ``now`` is an argument: no clock, no thread, no I/O.

The gang rule lives here: all ranks on all hosts, or none. What silence means is in `liveness`, how long a
host's end is waited for in `completion`, who is to blame in `cause` and `verdict`.
"""

from __future__ import annotations

from clusterctl.advise.hang_verdict import HangVerdict
from clusterctl.messages import events, relay
from clusterctl.plan.model import LaunchPlan
from clusterctl.run import cause as causes
from clusterctl.run.actions import Action, Finish, Say, StopHosts
from clusterctl.run.completion import Completion, let_alone, survivors
from clusterctl.run.hang_watch import HangWatch
from clusterctl.run.liveness import Liveness, Lost, silence_of_all
from clusterctl.run.states import HostRecord, RunState, Span
from clusterctl.run.verdict import Verdict
from clusterctl.run.warnings import Warnings
from clusterctl.settings import RUN, RunDefaults
from clusterctl.store.outcome import Cause, CauseKind, Status
from clusterctl.transport.protocol import Failure


class Machine:
    """One run. Feed it what happened; do what it returns.

    ``now`` is monotonic seconds; ``epoch`` is the wall clock at the first ``now``; ``at`` is wall clock.
    """

    def __init__(self, plan: LaunchPlan, now: float, epoch: float, defaults: RunDefaults = RUN) -> None:
        self.plan = plan
        self.defaults = defaults
        self.state = RunState.STARTING
        self.started = self.ticked = now
        self.epoch = epoch - now
        self.nodes = [
            HostRecord(node.host, node.ranks, heard=now, last_word=now, opened=now, progress=now)
            for node in plan.nodes
        ]
        self.stopping: Status | None = None
        self._stood: Span | None = None
        self.interrupts = 0
        self._at_once_since: float | None = None
        self._follows = False
        self.lease = defaults.lease(plan.on_disconnect)
        self._liveness = Liveness(self.nodes, defaults, self.lease)
        self._completion = Completion(self.nodes, defaults)
        self.verdict = Verdict(defaults)
        self.hangs = HangWatch(plan, self.nodes, now)
        self._warnings = Warnings()

    def begin(self, now: float, *, linked: bool = True) -> None:
        """The start is over: nobody was silent until now. ``linked``: whether channels stand, or this follows
        a controller that is gone."""
        if self.state is RunState.STARTING:
            self.state = RunState.RUNNING
        self._follows = not linked
        self.ticked = now
        self.hangs.begin(now)
        for state in self.nodes:
            state.heard = state.last_word = state.opened = state.progress = now
            state.met = None
            state.linked = linked

    def began(self, at: float) -> None:
        """The run is older than this controller: it began ``at``, by the wall clock."""
        self.started = at - self.epoch

    @property
    def grace(self) -> float:
        """Seconds from TERM to KILL, by the last order; those of a failure where there was none."""
        return self._completion.grace if self.stopping else self.defaults.failure_grace

    def heard(self, node: int, now: float) -> list[Action]:
        """Anything at all arrived from a node."""
        return self._liveness.heard(node, now)

    def progressed(self, node: int, now: float) -> None:
        """A node told something new: bytes of a log, an event."""
        self.nodes[node].progress = now

    def linked(self, node: int, now: float) -> list[Action]:
        """A new channel to a node stands. Whether it brings anything is to be seen."""
        self._liveness.linked(node, now)
        if self.stopping and not self.nodes[node].over:
            return [StopHosts((node,), self.grace, "the run is stopping")]
        return self.hangs.linked(node)

    def link_lost(self, node: int, reason: str, now: float) -> list[Action]:
        """A channel broke, or could not be made use of. The run goes on meanwhile."""
        return self._liveness.link_lost(node, reason, now)

    def unopened(self, node: int, failure: Failure, now: float) -> list[Action]:
        """A try to open a channel failed."""
        connected = failure.stage != "connect"
        return self._liveness.link_lost(node, failure.message, now, connected=connected)

    def absent(self, node: int, reason: str, now: float) -> list[Action]:
        """The host answers but knows nothing of the run: it was rebooted or its disk was cleared."""
        return self._lose(Lost((node,), f"the host no longer knows this run ({reason or 'rebooted?'})"))

    def probed(self, node: int, alive: bool, now: float) -> list[Action]:
        """What another host found over the training network."""
        self._liveness.probed(node, alive)
        return []

    def agent_event(self, node: int, event: events.AgentEvent, at: float, now: float) -> list[Action]:
        """One line of a node's ``events.jsonl``; ``at`` is its time in the controller's clock."""
        state = self.nodes[node]
        match event:
            case events.RankExited():
                return self._rank_exit(node, event, at, now)
            case events.Ended():
                said = let_alone(state.host, event.strays)
                state.ended, state.ended_at, state.left = True, now, event.left + len(event.strays)
                if not self.stopping and set(state.ranks) - set(state.exits):
                    why = "the agent ended before its ranks did"
                    return [*said, *self._fail(node, "internal", why, at)]
                if event.left:
                    left = survivors(event.processes, event.left)
                    said.append(Say(f"{state.host}: what could not be ended there: {left}"))
                return said
            case events.Stopping():
                state.ordered = state.ordered or not any(state.exits.values())
            case events.Refused():
                self.verdict.ordered = Cause(
                    kind="preflight",
                    host=state.host,
                    node_rank=node,
                    message=event.reason,
                    holder=event.run,
                )
                return self._stop("refused", event.reason, 0.0)
            case events.Warned():
                return self._warnings.heard(state.host, event)
            case events.EngineStarted():
                state.engine = True
            case events.LeaseOver():
                return self._lease_over(node, at, now)
            case events.NodeFailed():
                return self._fail(node, "internal", event.reason, at)
            case events.EngineExited() if event.code:
                return self._engine_exit(node, event, at)
        return []

    @property
    def awaited(self) -> str:
        """What the end of the run waits for, in words; empty while it does not end."""
        return self._completion.awaited(stopping=self.stopping is not None)

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

    def engine_failed(self, message: str, at: float, now: float, node: int | None = None) -> list[Action]:
        """DeepSpeed's launcher on the controller ended before its time, or could not reach ``node``."""
        weight = causes.Weight.DOUBTFUL if node is None else causes.Weight.OWN
        return self._fail(node, "internal", message, at, weight, log=f"logs/{self.plan.launcher_log}")

    def node_failed(self, node: int, what: str, at: float, now: float) -> list[Action]:
        """A relay could not carry out an order, or a host tells what cannot be."""
        return self._fail(node, "internal", what, at, causes.Weight.DOUBTFUL)

    def agent_gone(self, node: int, reply: relay.AgentGone, at: float, now: float) -> list[Action]:
        """The agent of a node was killed, or did nothing any more; the relay has swept what it left."""
        state = self.nodes[node]
        said = let_alone(state.host, reply.strays)
        state.ended, state.ended_at, state.left = True, now, reply.left + len(reply.strays)
        if all(state.exits.get(rank) == 0 for rank in state.ranks):
            return [*said, Say(f"{state.host}: the agent was killed, all ranks there had ended with 0")]
        return [*said, *self._fail(node, "internal", "the agent on this host was killed", at)]

    def complete(self, node: int, now: float) -> list[Action]:
        """Every log byte of a node has arrived."""
        self.nodes[node].complete = True
        return self._finish_if_over(now)

    def interrupt(self, now: float, by: str = "Ctrl-C") -> list[Action]:
        """A signal from the operator: the first lets scripts save, the second means now, and one that comes a
        while after that means that no host is waited for any more."""
        self.interrupts += 1
        if self._at_once_since is not None and now - self._at_once_since > self.defaults.patience:
            self._completion.give_up()
            return [Say("no host is waited for any more")]
        if self.interrupts > 1 and self._at_once_since is None:
            self._at_once_since = now
        return self._operator(by, now, at_once=self.interrupts > 1)

    def stop_asked(self, at_once: bool, now: float) -> list[Action]:
        """`clusterctl stop` from another terminal."""
        return self._operator("clusterctl stop", now, at_once=at_once)

    def tick(self, now: float) -> list[Action]:
        """Time has passed. Call about twice a second, and before what has arrived in between is told."""
        gap = now - self.ticked
        self.ticked = now
        if gap > 5.0:  # this machine slept, or this process did
            before = self._stood
            if before is None or gap >= before.end - before.start or now - before.end > self.lease:
                self._stood = Span(now - gap, now)
            for state in self.nodes:
                state.stood_still(gap)
            self._completion.stood_still(gap)
            self.hangs.stood_still(gap)
        actions: list[Action] = []
        limit = self.plan.time_limit
        if limit is not None and now - self.started > limit and not self.stopping:
            text = f"the time limit of {limit:g} s was reached"
            self.verdict.ordered = Cause(kind="timeout", message=text)
            self._completion.hurry(now)
            actions += self._stop("timeout", text, self.defaults.stop_grace)
        for found in self._liveness.watch(now, self._completion.grace):
            actions += self._lose(found) if isinstance(found, Lost) else [found]
        for told in self.hangs.tick(now) if self.state is RunState.RUNNING else []:
            actions += self._hung(told) if isinstance(told, HangVerdict) else [told]
        actions += self._completion.watch(now, stopping=self.stopping is not None)
        return actions + self._finish_if_over(now)

    def _lease_over(self, node: int, at: float, now: float) -> list[Action]:
        """A host ended its ranks for want of a word from here."""
        if away := self._away(node, now):
            cause = Cause(kind="operator", message=f"{away}, so the hosts ended their ranks")
            return self._take_failure(causes.Failure(cause=cause, at=at, seen_late=False), "")
        of_all = self._liveness.silence
        if of_all is not None and self._fell_into(node, of_all):
            return self._fail(None, "lost", silence_of_all(of_all.end - of_all.start), at)
        return self._fail(node, "lost", "the host stopped its ranks: no word from the controller", at)

    def _away(self, node: int, now: float) -> str:
        """Why it is nobody's fault but this side's that a lease is over now; empty where it is not."""
        if self._stood is not None and self._fell_into(node, self._stood):
            gap = self._stood.end - self._stood.start
            return f"this machine or `launch` stood still for {gap:.0f} s, longer than a lease"
        met = self.nodes[node].met
        if self._follows and (met is None or now - met < self.lease + self.defaults.heartbeat_timeout):
            lease = f"{self.lease / 3600:g} h" if self.lease >= 3600 else f"{self.lease:g} s"
            return f"no controller was at work for longer than the lease of {lease}"
        return ""

    def _fell_into(self, node: int, span: Span) -> bool:
        """Whether a node's last silence, which outlasted its lease, was for the most part of the lease that
        of ``span``."""
        silence = self.nodes[node].silence
        return silence is not None and silence.shared(span) > self.lease / 2

    def _rank_exit(self, node: int, event: events.RankExited, at: float, now: float) -> list[Action]:
        state = self.nodes[node]
        rank, code = event.rank, event.code
        if rank not in state.ranks:
            return self.node_failed(node, f"it tells of rank {rank}, which is not its own", at, now)
        state.exits[rank] = code
        if code == 0:
            state.early[rank] = now
            return []
        log = f"logs/{state.host}/{self.plan.log_of(rank)}"
        failure = causes.from_rank_exit(event, host=state.host, node_rank=node, at=at, log=log)
        if event.told and state.ordered:
            self.verdict.add_collateral(failure.cause)
            return []
        return self._take_failure(failure, f"{state.host} rank {rank}: ")

    def _engine_exit(self, node: int, event: events.EngineExited, at: float) -> list[Action]:
        """News where it was sent a signal; else only where nobody had ordered it and nothing explains it."""
        if event.sent is None and (self.verdict.explains_engine(node) or self.nodes[node].ordered):
            return []
        host = self.nodes[node].host
        log = f"logs/{host}/{self.plan.agent_log}"
        failure = causes.from_engine_exit(event, host=host, node_rank=node, at=at, log=log)
        return self._take_failure(failure, f"{host}: ")

    def _fail(
        self,
        node: int | None,
        kind: CauseKind,
        message: str,
        at: float,
        weight: causes.Weight = causes.Weight.OWN,
        log: str = "",
    ) -> list[Action]:
        state = self.nodes[node] if node is not None else None
        cause = Cause(
            kind=kind,
            message=message,
            host=state.host if state else "",
            node_rank=node,
            log=log or (f"logs/{state.host}/{self.plan.agent_log}" if state and kind == "internal" else ""),
        )
        failure = causes.Failure(cause=cause, at=at, weight=weight, seen_late=kind != "lost")
        return self._take_failure(failure, f"{state.host}: " if state else "")

    def _take_failure(self, failure: causes.Failure, where: str) -> list[Action]:
        """Any failure stops every host, also one that came after an order: the order may have been the
        engine's own."""
        if self.stopping in ("stopped", "timeout", "refused", "hung"):
            self.verdict.add_collateral(failure.cause)
            return []
        self.verdict.add(failure)
        return self._stop("failed", where + failure.cause.message, self.defaults.failure_grace)

    def _lose(self, lost: Lost) -> list[Action]:
        said: list[Action] = []
        gone = []
        for node in lost.nodes:
            state = self.nodes[node]
            if state.over:
                continue
            if state.ended:  # nothing of the run lives there: it cannot fail any more
                state.complete = True
                said.append(Say(f"{state.host}: not all of its logs have come: {lost.why}"))
            else:
                state.lost = True
                gone.append(node)
        if not gone:
            return said
        # Lost when they were last heard, not when that was noticed.
        at = self.epoch + min(self.nodes[node].last_word for node in gone)
        if lost.with_all:
            return [*said, *self._fail(None, "lost", lost.why, at)]
        return [*said, *self._fail(gone[0], "lost", f"lost: {lost.why}", at)]

    def _hung(self, verdict: HangVerdict) -> list[Action]:
        suspect = next(iter(verdict.suspects), None)
        self.verdict.ordered = Cause(
            kind="hang",
            message=verdict.sentence,
            host=suspect.host if suspect else "",
            node_rank=suspect.node_rank if suspect else None,
            rank=suspect.rank if suspect else None,
            log=f"logs/{suspect.host}/{self.plan.log_of(suspect.rank)}" if suspect else "",
        )
        return self._stop("hung", verdict.sentence, self.defaults.failure_grace)

    def _operator(self, by: str, now: float, *, at_once: bool) -> list[Action]:
        self._completion.hurry(now)
        if self.stopping is None and self._completion.all_exited:
            return self._hurry_the_end()
        if self.stopping and not at_once:
            more = f"what is left of its logs has {self.defaults.log_grace:g} s"
            return [Say(f"the run is stopping already, {more}; again = now")]
        if not self.stopping:
            self.verdict.ordered = Cause(kind="operator", message=f"stopped by the operator ({by})")
        grace = 0.0 if at_once else self.defaults.stop_grace
        end = "now; again, a while later = wait no longer" if at_once else f"{grace:g} s to save; again = now"
        return self._stop(
            self.stopping or "stopped", f"stopped by the operator ({by}): {end}", grace, again=True
        )

    def _hurry_the_end(self) -> list[Action]:
        """Every rank has ended with 0: there is nothing to stop any more, and the run has succeeded."""
        self._completion.ordered(0.0)
        reason = "every rank has ended"
        late = tuple(node for node, state in enumerate(self.nodes) if not (state.over or state.ended))
        said = Say(f"{reason}; what is left of its logs has {self.defaults.log_grace:g} s")
        return [said, StopHosts(late, 0.0, reason)] if late else [said]

    def _stop(self, status: Status, reason: str, grace: float, *, again: bool = False) -> list[Action]:
        if self.stopping and not again:
            return []
        self.stopping = self.stopping or status
        self.state = RunState.STOPPING
        self._completion.ordered(grace)
        running = tuple(node for node, state in enumerate(self.nodes) if not state.over)
        return [Say(reason), StopHosts(running, grace, reason)] if running else [Say(reason)]

    def _finish_if_over(self, now: float) -> list[Action]:
        if self.state is RunState.OVER or not all(state.over for state in self.nodes):
            return []
        self.state = RunState.OVER
        seconds = round(now - self.started, 3)
        return [Finish(self.verdict.outcome(self.plan.run, self.nodes, self.stopping, seconds))]
