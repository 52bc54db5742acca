"""Carries a run through: has it started, listens to the hosts, and does what the machine decides.

One loop, in one thread, and nothing in it waits: `Links` opens, sends and closes in threads of their own,
`Recorder` has one for this machine's disk, a `Display` must not wait either.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from clusterctl.ask.bundle import pack
from clusterctl.ask.host_session import HostSession
from clusterctl.ask.tree import Tree
from clusterctl.errors import ClusterctlError
from clusterctl.messages import orders, relay
from clusterctl.plan.model import LaunchPlan
from clusterctl.run.actions import (
    Action,
    Finish,
    IndirectProbe,
    Keep,
    LookAt,
    Observe,
    Reconnect,
    Say,
    StopHosts,
)
from clusterctl.run.checkpoints import Choice
from clusterctl.run.clock import now
from clusterctl.run.closing import Closing
from clusterctl.run.display import Display
from clusterctl.run.launcher import DeepSpeedLauncher
from clusterctl.run.launcher_watch import LauncherWatch
from clusterctl.run.leaving import displaced, without_controller
from clusterctl.run.links import Broken, Heard, LinkEvent, Links, Opened, Unopened
from clusterctl.run.machine import Machine
from clusterctl.run.operator import Operator
from clusterctl.run.past import AttemptEnd
from clusterctl.run.recorder import Behind, Notice, Recorder, Stored
from clusterctl.run.relay_bundle import RELAY, RELAY_FILES
from clusterctl.run.replies import Replies
from clusterctl.run.start import Halted, Startup
from clusterctl.run.states import RunState
from clusterctl.run.stdin import InputPump
from clusterctl.settings import RUN, SSH, RunDefaults
from clusterctl.store.claims import Verb
from clusterctl.store.outcome import Outcome
from clusterctl.store.runs import RunDirectory
from clusterctl.transport.protocol import Channel, Transport

_LOOK = 0.2
_TICK = 0.1
_HISTORY_TIMEOUT = 5.0


class Supervisor:
    """One run. Call `run` or `take_over`, once. Both raise LeftAlone after `leave`."""

    def __init__(
        self,
        plan: LaunchPlan,
        tree: Tree | None,
        transport: Transport,
        directory: RunDirectory,
        *,
        clock_offsets: Mapping[str, float],
        owner: str,
        display: Display,
        launcher: Callable[[LaunchPlan], DeepSpeedLauncher] | None = None,
        stdin: int | None = None,
        defaults: RunDefaults = RUN,
        spent: float = 0.0,
        in_place: dict[str, bool] | None = None,
        conclude: Callable[[Outcome], Outcome | AttemptEnd] = lambda outcome: outcome,
    ) -> None:
        """``clock_offsets``: seconds by which a host's clock is ahead. ``stdin``: a descriptor for rank 0.
        ``in_place`` is as `Startup` says. ``spent``: seconds that earlier attempts took, which count for the
        time limit and in the outcome. ``conclude`` is told how this attempt has ended and returns the outcome
        of the run, or the end of the attempt, where another is to follow: then the run goes on for all who
        look at it.
        """
        self.outcome: Outcome | None = None
        self.unwritten = ""
        """Why ``outcome.json`` could not be written; empty when it was."""
        self.disk_answers = True
        """False where the run directory's disk hung at the end: whoever reads there may wait for ever."""
        self._plan = plan
        self._tree = tree
        self._transport = transport
        self._owner = owner
        self._display = display
        self._make_launcher = launcher
        self._launcher: LauncherWatch | None = None
        self._stdin = stdin
        self._defaults = defaults
        self._hosts = tuple(node.host for node in plan.nodes)
        self._links = Links(self._hosts, transport, self._new_session)
        self._recorder = Recorder(directory, plan, self._links.wake)
        self._operator = Operator(self._links.wake)
        self._machine = Machine(plan, now(), time.time(), defaults)
        self._machine.started -= spent
        self._in_place = {} if in_place is None else in_place
        self._conclude = conclude
        self.resumed = Choice()
        """The checkpoint that it went on from, where the hosts looked for one."""
        self.ordered_at: float | None = None
        """When the hosts were told to stop, by `clock.now`."""
        self._replies = Replies(plan, self._machine, self._recorder, display, clock_offsets)
        self._everywhere = False
        """Whether it has started on all hosts."""
        self._never: set[int] = set()
        """Nodes on which nothing was started."""

    def interrupt(self, number: int = signal.SIGINT) -> None:
        """End the run: with time to save, the second time now. For signal handlers and other threads."""
        self._operator.interrupt(number)

    @property
    def unwanted(self) -> bool:
        """Whether somebody wants this run to end, whatever else has ended it."""
        asked = self._operator.wants_end or self._recorder.stop_asked is not None
        return asked or self._machine.interrupts > 0

    @property
    def began_nowhere(self) -> bool:
        """Whether no host was even told to begin."""
        return len(self._never) == len(self._hosts)

    @property
    def leaves(self) -> bool:
        """Whether this process is to go, and the run to go on without it."""
        return self._operator.leaves

    @property
    def failed_at(self) -> float | None:
        """When what ended the run had happened, by `clock.now`."""
        at = self._machine.verdict.failed_at
        return None if at is None else at - self._machine.epoch

    def note(self, event: Mapping[str, Any]) -> None:
        """Have one line written into the run's events."""
        self._recorder.record(event)

    def put_away(self) -> None:
        """Of one that has neither run nor taken over."""
        self._recorder.close()
        self._links.close()

    def hand_on(self, number: int) -> None:
        """Send SIGUSR1 or SIGUSR2 to every rank. For signal handlers and other threads."""
        self._operator.hand_on(number)

    def leave(self, number: int) -> None:
        """Go, while the hosts go on, where they were told to; else as `interrupt`. A run that has not begun,
        or is stopping, is seen to its end before. For signal handlers and other threads."""
        if self._plan.on_disconnect == "continue":
            self._operator.leave()
        else:
            self._operator.interrupt(number)

    def run(self, verb: Verb = "launch") -> Outcome:
        """Start all nodes or none, follow them to the end, leave nothing, and say how it went. The first
        attempt claims the run, for ``verb``; later ones have it."""
        start = Startup(
            self._plan,
            self._tree,
            self._links,
            owner=self._owner,
            stdin=self._stdin is not None,
            in_place=self._in_place,
            record=self._recorder.record,
            halted=self._halted,
            display=self._display,
        )
        pump = None
        if self._plan.attempt > 1:
            about = {"event": "attempt", "time": time.time(), "attempt": self._plan.attempt}
            self._recorder.record(about | {"hosts": self._hosts})
        try:
            trouble = self._carry_out(start, verb)
            self.resumed = start.resumed
            self._everywhere = not trouble
            self._display.awaiting("" if trouble else f"0 of {self._plan.world_size} ranks up")
            self._machine.begin(now())
            self._links.listen(self._links.nodes)
            if trouble:
                self._check(now())
                self._never = set(range(len(self._hosts))) - start.ordered
                self._do(self._machine.not_started(tuple(self._never), trouble, self._time(now()), now()))
            for node in range(len(self._hosts)) if not trouble else ():
                self._do(self._machine.hangs.linked(node))
            if self._make_launcher is not None and not trouble:
                self._launcher = LauncherWatch(self._plan, self._recorder, self._make_launcher)
            if self._stdin is not None and not trouble:
                first = self._plan.node_of(0).node_rank
                pump = InputPump(self._stdin, partial(self._links.feed, first))
                pump.start()
            for event in start.early:
                self._take(event, now())
            return self._finished(self._follow())
        finally:
            if pump is not None:
                pump.close()
            self._leave()

    def take_over(self, verb: Verb = "stop") -> Outcome:
        """Follow a run whose controller is gone, from what the nodes still know, to its end. The caller has
        taken the claim to it, for ``verb``."""
        try:
            self._everywhere = True
            self._recorder.keep_claim(verb).result()
            history = self._replies.history = self._recorder.resume(self._hosts).result()
            self._machine.hangs.looked(history.looks)
            everyone = set(range(len(self._hosts)))
            history.await_nodes(everyone, now() + _HISTORY_TIMEOUT + SSH.connect_timeout)
            self._links.open(everyone, time.monotonic() + SSH.probe_timeout, attach=True)
            self._machine.begin(now(), linked=False)
            return self._finished(self._follow())
        finally:
            self._leave()

    def _carry_out(self, start: Startup, verb: Verb) -> str:
        """Why it has not started everywhere; "" where it has."""
        claim = self._recorder.claim if self._plan.attempt == 1 else self._recorder.keep_claim
        try:
            start.carry_out(after=claim(verb))
        except Halted:
            return "it was ended before it had started everywhere"
        except ClusterctlError as error:
            return str(error)
        except OSError as error:
            return f"the start broke off: {error}"
        return ""

    def _new_session(self, node_rank: int, channel: Channel) -> HostSession[relay.Reply]:
        session = HostSession(channel, relay.replies)
        channel.send(pack(RELAY, self._replies.relay_request(node_rank), RELAY_FILES))
        return session

    def _follow(self) -> Outcome:
        while self.outcome is None:
            events = self._links.poll(_LOOK)
            at = now()
            self._check(at)
            for event in events:
                self._take(event, at)
            # Not before: what is stored of a session that has just been replaced is no news in the new one.
            for node, size in self._replies.unacknowledged():
                self._links.post(node, orders.Acknowledge(received=size))
        return self.outcome

    def _halted(self) -> bool:
        if self._recorder.fault is not None:
            raise self._recorder.fault
        limit = self._plan.time_limit
        late = limit is not None and now() - self._machine.started > limit
        taken = self._recorder.taken_by is not None
        return late or taken or self._operator.wants_end or self._recorder.stop_asked is not None

    def _check(self, at: float) -> None:
        """What time it is, and what the operator wants, here or from another terminal."""
        if at - self._machine.ticked >= _TICK:  # it looks at every host, and each of them wakes this loop
            self._do(self._machine.tick(at))
            if awaited := self._machine.awaited:
                self._display.ending(awaited)
        self._hear_recorder()
        other = self._recorder.taken_by
        if other is not None and self.outcome is None:
            self.outcome = displaced(self._plan.run, self._hosts, other)
        for by in self._operator.interrupts():
            self._do(self._machine.interrupt(at, by))
        if self._operator.leaves and self._may_go_on_alone:
            raise without_controller(self._plan.run, self._machine.lease)
        for number in self._operator.signals():
            self._say(f"{signal.Signals(number).name} is handed on to every rank")
            self._links.post_all(orders.SignalRanks(number=number))
        history = self._replies.history
        if not history.waiting or at > history.deadline:
            if history.began:
                self._machine.began(history.began)
            asked = self._operator.stop_asked(self._recorder.stop_asked)
            if asked is not None:
                self._do(self._machine.stop_asked(asked, at))
        if self._launcher is not None and not self._machine.stopping:
            failed = self._launcher.failure(lambda node: self._machine.nodes[node].engine, at)
            if failed is not None:
                self._do(self._machine.engine_failed(failed.message, self._time(at), at, failed.node))

    @property
    def _may_go_on_alone(self) -> bool:
        running = self._everywhere and self._machine.state is RunState.RUNNING
        return running and self._plan.on_disconnect == "continue"

    def _hear_recorder(self) -> None:
        if self._recorder.fault is not None:
            raise self._recorder.fault
        for report in self._recorder.reports():
            match report:
                case Stored():
                    self._replies.stored(report)
                case Behind():
                    for host in report.hosts:
                        self._reopen(self._hosts.index(host))
                case Notice():
                    self._display.say(report.text)

    def _take(self, event: LinkEvent, at: float) -> None:
        node = event.node
        match event:
            case Heard():
                self._do(self._machine.heard(node, at))
                for reply in event.replies:
                    self._do(self._replies.take(node, reply, at))
            case Opened():
                self._replies.new_session(node)
                self._do(self._machine.linked(node, at))
            case Unopened():
                self._replies.history.waiting.discard(node)
                self._do(self._machine.unopened(node, event.failure, at))
            case Broken():
                self._replies.history.waiting.discard(node)
                self._do(self._machine.link_lost(node, event.reason, at))

    def _do(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case StopHosts():
                    self.ordered_at = self.ordered_at or now()
                    for node in action.nodes:
                        self._links.post(node, orders.Stop(grace=action.grace, reason=action.reason))
                case Reconnect():
                    self._reopen(action.node)
                case IndirectProbe():
                    target = self._plan.nodes[action.node]
                    _, sshd = self._transport.address_of(target.host) or ("", 22)
                    ports = (sshd, self._plan.master_port)
                    probe = orders.Probe(node_rank=action.node, address=target.address, ports=ports)
                    self._links.post(action.prober, probe)
                case Observe():
                    port = self._plan.master_port
                    self._links.post(action.node, orders.Watch(interval=action.interval, port=port))
                case LookAt():
                    for node in action.nodes:
                        self._links.post(node, orders.Look(look=action.look, port=self._plan.master_port))
                case Keep():
                    self._recorder.keep(action.name, action.value)
                case Say():
                    self._say(action.text)
                case Finish():
                    self.outcome = action.outcome

    def _time(self, at: float) -> float:
        """That moment by the wall clock that the machine goes by."""
        return self._machine.epoch + at

    def _reopen(self, node: int) -> None:
        self._links.open({node}, time.monotonic() + SSH.connect_timeout, attach=True)

    def _say(self, text: str) -> None:
        self._recorder.record({"event": "say", "time": time.time(), "text": text})
        self._display.say(text)

    def _finished(self, outcome: Outcome) -> Outcome:
        if self._recorder.taken_by is not None:
            return outcome
        hurried = outcome.status in ("stopped", "timeout") or self._machine.interrupts > 0
        closing = Closing(self._plan, self._links, self._recorder, self._operator, self._display)
        timeout = self._defaults.disk_grace if hurried else self._defaults.disk_timeout
        final = self._conclude(outcome)
        kept = closing.keep(final, self._hosts, timeout)
        if self._recorder.taken_by is not None:
            return displaced(self._plan.run, self._hosts, self._recorder.taken_by)
        self.unwritten, self.disk_answers = kept.unwritten, kept.disk_answers
        # What is not whole here stays there: nothing else holds it.
        whole = {node for node, host in enumerate(self._hosts) if host not in kept.incomplete}
        closing.forget(whole | self._never, last=isinstance(final, Outcome))
        outcome = final if isinstance(final, Outcome) else outcome
        return outcome.with_logs(self._plan.attempt, kept.incomplete, kept.cut_logs)

    def _leave(self) -> None:
        """Hang up. If the run is not over, this process is broken or was interrupted: no host may wait for
        its lease, unless that is what was asked for. Ranks that are saving keep their grace."""
        if self._recorder.launcher is not None:
            gone = self.outcome is not None and None in self.outcome.left_behind.values()
            self._recorder.launcher.close(at_once=gone)
        self._recorder.close()
        if self.outcome is None and self._recorder.taken_by is None and not self._may_go_on_alone:
            self._links.post_all(orders.Stop(grace=self._machine.grace, reason="the controller broke"))
        self._links.close()
