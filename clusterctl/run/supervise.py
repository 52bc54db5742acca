"""Carries a run through: has it started, listens to the hosts, and does what the machine decides."""

from __future__ import annotations

import queue
import selectors
import threading
import time
from collections.abc import Callable, Mapping

import msgspec

from clusterctl.ask.bundle import REMOTE_COMMAND, pack
from clusterctl.ask.host_session import HostSession
from clusterctl.ask.tree import Tree
from clusterctl.errors import ClusterctlError
from clusterctl.messages import relay
from clusterctl.messages.events import RankExited
from clusterctl.plan.model import LaunchPlan
from clusterctl.run.launcher import DeepSpeedLauncher
from clusterctl.run.machine import Action, Finish, IndirectProbe, Machine, Reconnect, Say, StopHosts
from clusterctl.run.start import Halted, Startup
from clusterctl.settings import RUN, SSH
from clusterctl.store.outcome import Outcome
from clusterctl.store.runs import RunDirectory
from clusterctl.transport.protocol import Channel, Failure, Transport

_NODE_FILES = ("shared.processes", "run.agent", "run.rank", "run.snapshot", "run.enter", "run.sitecustomize")
_POLL = 0.2
_HISTORY_LIMIT = 5.0


class Screen:
    """What the caller wants to see of a run. All methods may be overridden; none does anything here."""

    def say(self, text: str) -> None:
        """One line about the run itself."""

    def output(self, host: str, name: str, data: bytes) -> None:
        """Bytes of a log as they arrive, in order for each log."""

    def awaiting(self, text: str) -> None:
        """What is awaited now: "copying code to node1: 3.1 of 12 MB", "3 of 4 ranks up, importing".

        Replaces what was said before; "" ends it, and so does the first output. May be called often.
        """


class Supervisor:
    """One attached run. Call `run` once."""

    def __init__(
        self,
        plan: LaunchPlan,
        tree: Tree | None,
        transport: Transport,
        directory: RunDirectory,
        *,
        clock_offsets: Mapping[str, float],
        owner: str,
        screen: Screen,
        launcher: Callable[[LaunchPlan], DeepSpeedLauncher] | None = None,
    ) -> None:
        self.plan = plan
        self.tree = tree
        self.transport = transport
        self.directory = directory
        self.offsets = clock_offsets
        self.owner = owner
        self.screen = screen
        self.make_launcher = launcher
        self.launcher: DeepSpeedLauncher | None = None
        self.sessions: dict[int, HostSession[relay.Reply]] = {}
        self.fingerprints: dict[int, dict[str, relay.Fingerprint]] = {}
        self.links: queue.Queue[tuple[int, HostSession[relay.Reply] | Failure]] = queue.Queue()
        self.outcome: Outcome | None = None
        self.began = 0.0
        self.takes_over = False
        self.started_on: set[str] = set()
        self.interrupts = 0
        self.interrupts_done = 0
        self.seen_events: dict[int, int] = {}
        self.recorded: dict[int, int] = {}
        self.stop_told: bool | None = None
        self.unheard: set[int] = set()
        self.history_deadline = 0.0

    def interrupt(self) -> None:
        """For a signal handler: counts, nothing else."""
        self.interrupts += 1

    def run(self) -> Outcome:
        """Start all nodes or none, follow them to the end, leave nothing, and say how it went."""
        self.began = time.monotonic()
        self.machine = Machine(self.plan, self.began, time.time())
        start = Startup(
            self.plan,
            self.tree,
            self.transport,
            owner=self.owner,
            greet=self._greet,
            record=self.directory.append_event,
            halted=self._halted,
        )
        trouble = ""
        try:
            self.directory.claim()
            start.carry_out()
        except Halted:
            trouble = "it was ended before it had started everywhere"
        except ClusterctlError as error:
            trouble = str(error)
        except OSError as error:
            trouble = f"the start broke off: {error}"
        self.sessions = start.sessions
        self.machine.begin(time.monotonic())
        try:
            if trouble:
                self._heed(time.monotonic())
                never = tuple(n.node_rank for n in self.plan.nodes if n.node_rank not in start.ordered)
                self._do(self.machine.not_started(never, trouble, time.time(), time.monotonic()))
            elif self.make_launcher is not None:
                self.launcher = self.make_launcher(self.plan)
            for node_rank, message in start.early:
                self._take(node_rank, message)
            self._follow()
        except OSError as error:
            self._stop_everywhere()
            raise ClusterctlError(
                f"this machine could not go on following run {self.plan.run}: {error}",
                hint=f"every host was told to stop; `clusterctl stop {self.plan.run}` makes sure of it",
            ) from error
        finally:
            if self.launcher is not None:
                self.launcher.close()
        assert self.outcome is not None
        return self._finished(self.outcome)

    def take_over(self) -> Outcome:
        """Follow a run whose controller is gone, from what the nodes still know, to its end."""
        self.takes_over = True
        self.directory.claim()
        self.recorded = self.directory.recorded_events()
        self.started_on = {event["host"] for event in self.directory.events() if event["event"] == "started"}
        self.machine = Machine(self.plan, time.monotonic(), time.time())
        ranks = {node.host: node.node_rank for node in self.plan.nodes}
        deadline = time.monotonic() + SSH.probe_timeout
        for host, channel in self.transport.open_all(list(ranks), REMOTE_COMMAND, deadline):
            node = ranks[host]
            if isinstance(channel, Failure):
                self._do(self.machine.link_lost(node, channel.message, time.monotonic()))
            else:
                self.sessions[node] = self._greet(node, channel)
                self._send(self.sessions[node], relay.Attach())
        # What ended before anybody asked for a stop must not count as stopped: hear the past first.
        self.unheard = set(self.sessions)
        self.history_deadline = time.monotonic() + _HISTORY_LIMIT
        self._follow()
        assert self.outcome is not None
        seconds = round(time.time() - self.directory.started(), 3)
        return self._finished(msgspec.structs.replace(self.outcome, seconds=seconds))

    # Starting

    def _greet(self, node_rank: int, channel: Channel) -> HostSession[relay.Reply]:
        session = HostSession(channel, relay.replies)
        request = {
            "run": self.plan.run,
            "node_rank": node_rank,
            "offsets": self.directory.offsets(self.plan.nodes[node_rank].host)
            | {"events.jsonl": self.seen_events.get(node_rank, 0)},
            "lease": RUN.lease_attached,
        }
        channel.send(pack("run.relay", request, _NODE_FILES))
        return session

    def _stop_everywhere(self) -> None:
        for session in self.sessions.values():
            self._send(session, relay.Stop(grace=0.0, reason="the controller failed"))

    # Following

    def _follow(self) -> None:
        over = threading.Event()
        threading.Thread(target=self._beat, args=(over,), name="beat", daemon=True).start()
        try:
            while self.outcome is None:
                self._follow_once()
        finally:
            over.set()

    def _beat(self, over: threading.Event) -> None:
        """In a thread of its own: a terminal that stands still (Ctrl-S, a pager) must not end a run."""
        while not over.wait(RUN.heartbeat):
            for session in list(self.sessions.values()):
                session.nudge(relay.Keepalive())

    def _follow_once(self) -> None:
        for node, message in self._poll():
            self._take(node, message)
        now = time.monotonic()
        self._take_links(now)
        self._heed(now)
        trouble = self.launcher.trouble() if self.launcher is not None else ""
        if trouble and not self.machine.stopping:
            self._do(self.machine.engine_failed(trouble, time.time(), now))

    def _halted(self) -> bool:
        limit = self.plan.time_limit
        late = limit is not None and time.monotonic() - self.began > limit
        return late or bool(self.interrupts) or self.directory.stop_asked() is not None

    def _heed(self, now: float) -> None:
        """Pass on what the operator wants, here or from another terminal, and what time it is."""
        while self.interrupts_done < self.interrupts:
            self.interrupts_done += 1
            self._do(self.machine.interrupt(now))
        asked = self.directory.stop_asked()
        if asked not in (None, self.stop_told) and (not self.unheard or now > self.history_deadline):
            self.stop_told = asked
            self._do(self.machine.stop_asked(bool(asked), now))
        self._do(self.machine.tick(now))

    def _poll(self) -> list[tuple[int, relay.Reply | None]]:
        """What arrived within a moment: (node rank, message), or (node rank, None) for a broken link."""
        if not self.sessions:
            time.sleep(_POLL)
            return []
        found: list[tuple[int, relay.Reply | None]] = []
        with selectors.DefaultSelector() as selector:
            for node, session in self.sessions.items():
                selector.register(session.channel.fileno(), selectors.EVENT_READ, node)
            for key, _ in selector.select(_POLL):
                session = self.sessions[key.data]
                found += [(key.data, message) for message in session.receive()]
                if session.ended:
                    found.append((key.data, None))
        return found

    def _take(self, node: int, message: relay.Reply | None) -> None:
        now = time.monotonic()
        host = self.plan.nodes[node].host
        if message is None:
            self.unheard.discard(node)
            session = self.sessions.pop(node)
            session.close()
            self._do(self.machine.link_lost(node, session.last_words or "closed", now))
            return
        self._do(self.machine.heard(node, now))
        match message:
            case relay.LogPiece():
                self.directory.append_log(host, message.name, message.offset, message.data)
                self.screen.output(host, message.name, message.data)
            case relay.HostEvent():
                self._take_event(node, message, now)
            case relay.CaughtUp():
                self.unheard.discard(node)
            case relay.Complete():
                self.unheard.discard(node)
                self.fingerprints[node] = message.logs
                self._do(self.machine.complete(node, now))
            case relay.AgentGone():
                self._do(self.machine.agent_gone(node, message.left, time.time(), now))
            case relay.Probed() if message.node_rank < len(self.plan.nodes):
                self._do(self.machine.probed(message.node_rank, message.alive, now))
            case relay.Absent():
                self.unheard.discard(node)
                never = self.takes_over and host not in self.started_on
                self._do((self.machine.never_started if never else self.machine.absent)(node, now))
            case relay.Failed():
                why = f"{message.what}: {message.reason}"
                self._do(self.machine.node_failed(node, why, time.time(), now))

    def _take_event(self, node: int, message: relay.HostEvent, now: float) -> None:
        host, event = self.plan.nodes[node].host, message.event
        offset = self.offsets.get(host, 0.0)
        at = event.time - offset
        self.seen_events[node] = message.offset
        if message.offset > self.recorded.get(node, 0):
            about = {"host": host, "node_rank": node, "offset": message.offset}
            self.directory.append_event(about | msgspec.to_builtins(event) | {"time": at})
        if isinstance(event, RankExited):
            # A rank that raised failed then, however long its exit handlers took.
            at = (event.error.time if event.error else event.ended) - offset
            event = msgspec.structs.replace(event, ended=event.ended - offset)
        self._do(self.machine.agent_event(node, event, at, now))

    def _take_links(self, now: float) -> None:
        while True:
            try:
                node, link = self.links.get_nowait()
            except queue.Empty:
                return
            if isinstance(link, Failure):
                self._do(self.machine.link_lost(node, link.message, now))
            else:
                self.sessions[node] = link
                self._do(self.machine.linked(node, now))

    def _do(self, actions: list[Action]) -> None:
        # Stops go first: telling of one may fail, with a full disk here.
        for action in sorted(actions, key=lambda action: not isinstance(action, StopHosts)):
            if isinstance(action, StopHosts):
                order = relay.Stop(grace=action.grace, reason=action.reason)
                for node in action.nodes:
                    if node in self.sessions:
                        self._send(self.sessions[node], order)
            elif isinstance(action, Reconnect):
                old = self.sessions.pop(action.node, None)
                if old is not None:
                    old.close()
                threading.Thread(target=self._reconnect, args=(action.node,), daemon=True).start()
            elif isinstance(action, IndirectProbe):
                ports = (22, self.plan.master_port)
                address = self.plan.nodes[action.node].address
                probe = relay.Probe(node_rank=action.node, address=address, ports=ports)
                if action.prober in self.sessions:
                    self._send(self.sessions[action.prober], probe)
            elif isinstance(action, Say):
                self.directory.append_event({"event": "say", "time": time.time(), "text": action.text})
                self.screen.say(action.text)
            elif isinstance(action, Finish):
                self.outcome = action.outcome

    def _reconnect(self, node: int) -> None:
        host = self.plan.nodes[node].host
        channel = self.transport.open(host, REMOTE_COMMAND, time.monotonic() + SSH.connect_timeout)
        if isinstance(channel, Failure):
            self.links.put((node, channel))
            return
        try:
            session = self._greet(node, channel)
            session.send(relay.Attach())
        except OSError as error:
            self.links.put((node, Failure(host=host, stage="exec", message=str(error))))
            return
        self.links.put((node, session))

    def _send(self, session: HostSession[relay.Reply], order: relay.Order) -> None:
        try:
            session.send(order)
        except OSError as error:
            # The reader side notices the broken link in the same round; the reason is kept for it.
            session.stderr += f"\n{error}".encode()

    # Ending

    def _finished(self, outcome: Outcome) -> Outcome:
        outcome = msgspec.structs.replace(outcome, incomplete_logs=self._incomplete_logs())
        self.directory.write("outcome.json", outcome)
        for session in self.sessions.values():
            self._send(session, relay.Forget(enter=self.plan.enter))
        deadline = time.monotonic() + 5.0
        for session in self.sessions.values():
            while time.monotonic() < deadline and not session.ended:
                if any(isinstance(message, relay.Forgotten) for message in session.receive()):
                    break
                time.sleep(0.01)
            session.close()
        return outcome

    def _incomplete_logs(self) -> tuple[str, ...]:
        """Hosts whose logs here differ in size or hash from what the node says it wrote."""
        bad = []
        for node in self.plan.nodes:
            told = self.fingerprints.get(node.node_rank)
            if told is None or any(
                self.directory.log_fingerprint(node.host, name) != msgspec.structs.asdict(mark)
                for name, mark in told.items()
                if mark.size
            ):
                bad.append(node.host)
        return tuple(bad)
