"""Carries a run through: has it started, listens to the hosts, and does what the machine decides.

One loop, in one thread, and nothing in it waits: `Links` opens, sends and closes in threads of their own,
`LogCollector` loses nothing to a full disk, a `Display` must not wait either.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping

import msgspec

from clusterctl.ask.bundle import pack
from clusterctl.ask.host_session import HostSession
from clusterctl.ask.tree import Tree
from clusterctl.errors import ClusterctlError
from clusterctl.messages import relay
from clusterctl.plan.model import LaunchPlan
from clusterctl.run.actions import Action, Finish, IndirectProbe, Reconnect, Say, StopHosts
from clusterctl.run.claim_watch import ClaimWatch, displaced
from clusterctl.run.display import Display
from clusterctl.run.history import History
from clusterctl.run.launcher import DeepSpeedLauncher
from clusterctl.run.links import Broken, Heard, LinkEvent, Links, Opened, Unopened
from clusterctl.run.log_collector import LogCollector
from clusterctl.run.machine import Machine
from clusterctl.run.operator import Operator
from clusterctl.run.relay_bundle import RELAY, RELAY_FILES
from clusterctl.run.replies import Replies
from clusterctl.run.start import Halted, Startup
from clusterctl.run.stdin import InputPump
from clusterctl.settings import RUN, SSH, RunDefaults
from clusterctl.store.outcome import Outcome
from clusterctl.store.runs import RunDirectory
from clusterctl.transport.protocol import Channel, Transport

_LOOK = 0.2
_HISTORY_TIMEOUT = 5.0
_PDSH_TIMEOUT = 3.0
_FORGET_TIMEOUT = 5.0
# Goes on while this machine sleeps, so that the sleep is seen as a gap.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def _now() -> float:
    return time.clock_gettime(_CLOCK)


class Supervisor:
    """One attached run. Call `run` or `take_over`, once."""

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
    ) -> None:
        """``clock_offsets``: seconds by which a host's clock is ahead. ``stdin``: a descriptor for rank 0."""
        self.outcome: Outcome | None = None
        self.unwritten = ""
        """Why ``outcome.json`` could not be written; empty when it was."""
        self._plan = plan
        self._tree = tree
        self._transport = transport
        self._directory = directory
        self._owner = owner
        self._display = display
        self._make_launcher = launcher
        self._launcher: DeepSpeedLauncher | None = None
        self._stdin = stdin
        self._links = Links((node.host for node in plan.nodes), transport, self._new_session)
        self._logs = LogCollector(directory, display)
        self._operator = Operator(directory, self._links.wake)
        self._machine = Machine(plan, _now(), time.time(), defaults)
        self._replies = Replies(plan, self._machine, self._logs, display, clock_offsets)
        self._never: set[int] = set()
        """Nodes on which nothing was started."""
        self._unreached_since: dict[str, float] = {}
        self._claim = ClaimWatch(directory, _now())
        self._displaced = False

    def interrupt(self, number: int = signal.SIGINT) -> None:
        """End the run: with time to save, the second time now. For signal handlers and other threads."""
        self._operator.interrupt(number)

    def hand_on(self, number: int) -> None:
        """Send SIGUSR1 or SIGUSR2 to every rank. For signal handlers and other threads."""
        self._operator.hand_on(number)

    def run(self) -> Outcome:
        """Start all nodes or none, follow them to the end, leave nothing, and say how it went."""
        start = Startup(
            self._plan,
            self._tree,
            self._links,
            owner=self._owner,
            stdin=self._stdin is not None,
            record=lambda event: self._logs.record(event, _now()),
            halted=self._halted,
            display=self._display,
        )
        trouble = ""
        try:
            self._claim.take("launch")
            start.carry_out()
        except Halted:
            trouble = "it was ended before it had started everywhere"
        except ClusterctlError as error:
            trouble = str(error)
        except OSError as error:
            trouble = f"the start broke off: {error}"
        self._display.awaiting("")
        self._machine.begin(_now())
        self._links.listen(self._links.nodes)
        pump = None
        try:
            if trouble:
                self._check(_now())
                self._never = {n.node_rank for n in self._plan.nodes} - start.ordered
                self._do(self._machine.not_started(tuple(self._never), trouble, time.time(), _now()))
            elif self._make_launcher is not None:
                self._launch(self._make_launcher)
            if self._stdin is not None and not trouble:
                first = self._plan.node_of(0).node_rank
                pump = InputPump(self._stdin, lambda data, timeout: self._links.feed(first, data, timeout))
                pump.start()
            for event in start.early:
                self._take(event, _now())
            return self._finished(self._follow())
        finally:
            if pump is not None:
                pump.close()
            if self._launcher is not None:
                self._launcher.close()
            self._leave()

    def take_over(self) -> Outcome:
        """Follow a run whose controller is gone, from what the nodes still know, to its end."""
        self._claim.take("stop")
        everyone = {node.node_rank for node in self._plan.nodes}
        self._replies.history = History(
            recorded=self._directory.recorded_events(),
            started_on={e["host"] for e in self._directory.events() if e["event"] == "started"},
            waiting=set(everyone),
            deadline=_now() + _HISTORY_TIMEOUT + SSH.connect_timeout,
        )
        self._links.open(everyone, time.monotonic() + SSH.probe_timeout, attach=True)
        self._machine.begin(_now(), linked=False)
        try:
            outcome = self._follow()
            seconds = round(time.time() - self._directory.started(), 3)
            return self._finished(msgspec.structs.replace(outcome, seconds=seconds))
        finally:
            self._leave()

    def _new_session(self, node_rank: int, channel: Channel) -> HostSession[relay.Reply]:
        host = self._plan.nodes[node_rank].host
        request = {
            "run": self._plan.run,
            "node_rank": node_rank,
            "offsets": self._logs.offsets(host)
            | {"events.jsonl": self._replies.events_read.get(node_rank, 0)},
            "lease": RUN.lease_attached,
        }
        session = HostSession(channel, relay.replies)
        channel.send(pack(RELAY, request, RELAY_FILES))
        return session

    def _launch(self, make: Callable[[LaunchPlan], DeepSpeedLauncher]) -> None:
        try:
            self._launcher = make(self._plan)
        except OSError as error:
            text = f"deepspeed's launcher cannot be started: {error}"
            self._do(self._machine.engine_failed(text, time.time(), _now()))

    # Following

    def _follow(self) -> Outcome:
        while self.outcome is None:
            events = self._links.poll(_LOOK)
            now = _now()
            self._check(now)
            for event in events:
                self._take(event, now)
        return self.outcome

    def _halted(self) -> bool:
        limit = self._plan.time_limit
        late = limit is not None and _now() - self._machine.started > limit
        return late or self._operator.wants_end

    def _check(self, now: float) -> None:
        """What time it is, and what the operator wants, here or from another terminal."""
        self._do(self._machine.tick(now))
        other = self._claim.taken_by(now)
        if other is not None and self.outcome is None:
            self._displaced = True
            self.outcome = displaced(self._plan.run, tuple(n.host for n in self._plan.nodes), other)
        for by in self._operator.interrupts():
            self._do(self._machine.interrupt(now, by))
        for number in self._operator.signals():
            self._say(f"{signal.Signals(number).name} is handed on to every rank")
            for node in self._links.nodes:
                self._links.post(node, relay.SignalRanks(number=number))
        if not self._replies.history.waiting or now > self._replies.history.deadline:
            asked = self._operator.stop_asked()
            if asked is not None:
                self._do(self._machine.stop_asked(asked, now))
        for host in self._logs.retry(now):
            self._reopen(next(n.node_rank for n in self._plan.nodes if n.host == host))
        if self._launcher is not None and not self._machine.stopping:
            self._check_launcher(self._launcher, now)

    def _check_launcher(self, launcher: DeepSpeedLauncher, now: float) -> None:
        trouble = launcher.trouble()
        for host, said in launcher.unreached().items():
            node = next((n for n in self._plan.nodes if host in (n.host, n.host.partition(".")[0])), None)
            if node is None or self._machine.nodes[node.node_rank].engine:
                continue
            since = self._unreached_since.setdefault(host, now)
            if trouble or now - since > _PDSH_TIMEOUT:
                text = f"pdsh could not start the engine there: {said}"
                self._do(self._machine.engine_failed(text, time.time(), now, node.node_rank))
                return
        if trouble:
            self._do(self._machine.engine_failed(trouble, time.time(), now))

    def _take(self, event: LinkEvent, now: float) -> None:
        node = event.node
        match event:
            case Heard():
                self._do(self._machine.heard(node, now))
                for reply in event.replies:
                    self._do(self._replies.take(node, reply, now))
                if any(isinstance(reply, relay.LogPiece) for reply in event.replies):
                    self._links.post(node, relay.Acknowledge(received=self._replies.log_bytes[node]))
            case Opened():
                self._replies.log_bytes[node] = 0
                self._do(self._machine.linked(node, now))
            case Unopened():
                self._replies.history.waiting.discard(node)
                self._do(self._machine.link_lost(node, event.failure.message, now))
            case Broken():
                self._replies.history.waiting.discard(node)
                self._do(self._machine.link_lost(node, event.reason, now))

    def _do(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case StopHosts():
                    for node in action.nodes:
                        self._links.post(node, relay.Stop(grace=action.grace, reason=action.reason))
                case Reconnect():
                    self._reopen(action.node)
                case IndirectProbe():
                    target = self._plan.nodes[action.node]
                    _, sshd = self._transport.address_of(target.host) or ("", 22)
                    ports = (sshd, self._plan.master_port)
                    probe = relay.Probe(node_rank=action.node, address=target.address, ports=ports)
                    self._links.post(action.prober, probe)
                case Say():
                    self._say(action.text)
                case Finish():
                    self.outcome = action.outcome

    def _reopen(self, node: int) -> None:
        self._links.open({node}, time.monotonic() + SSH.connect_timeout, attach=True)

    def _say(self, text: str) -> None:
        self._logs.record({"event": "say", "time": time.time(), "text": text}, _now())
        self._display.say(text)

    # Ending

    def _finished(self, outcome: Outcome) -> Outcome:
        if self._displaced:
            return outcome
        hosts = tuple(node.host for node in self._plan.nodes)
        missing = self._logs.incomplete(hosts)
        outcome = msgspec.structs.replace(outcome, incomplete_logs=missing)
        try:
            self._directory.write("outcome.json", outcome)
        except OSError as error:
            self.unwritten = f"{self._directory.path / 'outcome.json'}: {error.strerror or error}"
        # What is not whole here stays there: nothing else holds it.
        waiting = {n for n in self._links.nodes if hosts[n] not in missing or n in self._never}
        for node in waiting:
            self._links.post(node, relay.Forget(enter=self._plan.enter))
        deadline = _now() + _FORGET_TIMEOUT
        while waiting and _now() < deadline:
            for event in self._links.poll(_LOOK):
                replies = event.replies if isinstance(event, Heard) else ()
                forgotten = any(isinstance(reply, relay.Forgotten) for reply in replies)
                if forgotten or isinstance(event, Broken):
                    waiting.discard(event.node)
        return outcome

    def _leave(self) -> None:
        """Hang up. If the run is not over, this process is broken: no host may wait for its lease."""
        if self.outcome is None:
            for node in self._links.nodes:
                self._links.post(node, relay.Stop(grace=RUN.failure_grace, reason="the controller broke"))
        self._links.close()
