"""Logs of an attempt that were not complete here when it ended, from the hosts that still have them."""

from __future__ import annotations

import time

from clusterctl.ask.bundle import pack
from clusterctl.ask.host_session import HostSession
from clusterctl.messages import orders, relay
from clusterctl.plan.model import LaunchPlan
from clusterctl.report.findings import brief
from clusterctl.report.moved import Moved
from clusterctl.run.closing import Closing
from clusterctl.run.display import Display
from clusterctl.run.links import Broken, Heard, LinkEvent, Links, Opened, Unopened
from clusterctl.run.operator import Operator
from clusterctl.run.recorder import Notice, Recorder, Stored
from clusterctl.run.relay_bundle import RELAY, RELAY_FILES
from clusterctl.settings import RUN, SSH
from clusterctl.store.outcome import Outcome
from clusterctl.store.runs import RunDirectory
from clusterctl.transport.protocol import Channel, Transport

_LOOK = 0.2


class LogFetch:
    """Call `carry_out` once."""

    def __init__(
        self,
        plan: LaunchPlan,
        outcome: Outcome,
        transport: Transport,
        directory: RunDirectory,
        display: Display,
        *,
        timeout: float = RUN.log_timeout,
    ) -> None:
        """``plan`` is that of the attempt, ``outcome`` the run's. ``timeout``: for how many seconds the hosts
        may bring nothing new."""
        self.problems: dict[str, str] = {}
        """Host -> why its logs are still not complete here."""
        self._plan = plan
        self._outcome = outcome
        self._display = display
        self._timeout = timeout
        self._hosts = tuple(node.host for node in plan.nodes)
        self._links = Links(self._hosts, transport, self._new_session)
        self._recorder = Recorder(directory, plan, self._links.wake)
        missing = outcome.incomplete_in(plan.attempt)
        self._waiting = {node for node, host in enumerate(self._hosts) if host in missing}
        self._stored = dict.fromkeys(self._waiting, 0)

    def carry_out(self) -> Outcome:
        """Bring what is missing, have the hosts forget what is whole here now, and write the outcome anew,
        which comes back."""
        operator = Operator(self._links.wake)
        closing = Closing(self._plan, self._links, self._recorder, operator, self._display)
        missing = tuple(self._hosts[node] for node in sorted(self._waiting))
        try:
            self._recorder.resume(missing).result()
            self._links.open(self._waiting, time.monotonic() + SSH.probe_timeout, attach=True)
            self._follow()
            kept = closing.keep(self._outcome, missing, RUN.disk_timeout)
            left = missing if kept.unwritten else kept.incomplete
            for host in left:
                self.problems.setdefault(host, kept.unwritten or "they are not what the host says they are")
            closing.forget({self._hosts.index(host) for host in missing if host not in left})
            return self._outcome.with_logs(self._plan.attempt, left, kept.cut_logs)
        finally:
            self._recorder.close()
            self._links.close()

    def _new_session(self, node: int, channel: Channel) -> HostSession[relay.Reply]:
        request = {
            "run": self._plan.run,
            "node_rank": node,
            "attempt": self._plan.attempt,
            "offsets": self._recorder.offsets(self._hosts[node]),
            "lease": RUN.lease_attached,
        }
        session = HostSession(channel, relay.replies)
        channel.send(pack(RELAY, request, RELAY_FILES))
        return session

    def _follow(self) -> None:
        moved, bytes_moved = time.monotonic(), Moved()
        while self._waiting:
            hosts = brief(self._hosts[node] for node in sorted(self._waiting))
            came = bytes_moved.text(sum(self._stored.values()), time.monotonic())
            self._display.awaiting(f"logs of {hosts}: {came}")
            for event in self._links.poll(_LOOK):
                if self._take(event):
                    moved = time.monotonic()
            for report in self._recorder.reports():
                match report:
                    case Stored():
                        self._stored[report.node] += report.size
                        self._links.post(report.node, orders.Acknowledge(received=self._stored[report.node]))
                    case Notice():
                        self._display.say(report.text)
            if time.monotonic() - moved > self._timeout:
                for node in list(self._waiting):
                    self._give_up(node, f"nothing more came for {self._timeout:g} s")

    def _take(self, event: LinkEvent) -> bool:
        """Whether it brings anything new."""
        match event:
            case Opened() if self._outcome.left_behind.get(self._hosts[event.node]) is None:
                # Nobody knows that its part has ended, and this session renews its lease.
                self._links.post(event.node, orders.Stop(grace=0.0, reason="the run is over"))
            case Unopened():
                self._give_up(event.node, event.failure.message)
            case Broken():
                self._give_up(event.node, f"the connection broke: {event.reason}")
            case Heard():
                for reply in event.replies:
                    self._hear(event.node, reply)
                return any(isinstance(reply, relay.LogPiece) for reply in event.replies)
        return False

    def _hear(self, node: int, reply: relay.Reply) -> None:
        host = self._hosts[node]
        match reply:
            case relay.LogPiece():
                self._recorder.store(host, reply, node, session=0)
            case relay.LogCut():
                self._recorder.cut(host, reply)
            case relay.Complete():
                self._recorder.complete(host, reply.logs)
                self._waiting.discard(node)
            case relay.Absent():
                self._give_up(node, f"the host no longer knows this run ({reply.reason or 'rebooted?'})")

    def _give_up(self, node: int, why: str) -> None:
        if node in self._waiting:
            self._waiting.discard(node)
            self.problems[self._hosts[node]] = why
