"""What the relays of a run say: logs and events to the disk, the rest to the machine."""

from __future__ import annotations

import time
from collections.abc import Mapping

import msgspec

from clusterctl.messages import relay
from clusterctl.messages.events import RankExited, RankStarted
from clusterctl.plan.model import LaunchPlan
from clusterctl.run.actions import Action
from clusterctl.run.display import Display
from clusterctl.run.history import History
from clusterctl.run.log_collector import LogCollector
from clusterctl.run.machine import Machine


class Replies:
    """Takes every reply once, in the order of its host."""

    def __init__(
        self,
        plan: LaunchPlan,
        machine: Machine,
        logs: LogCollector,
        display: Display,
        clock_offsets: Mapping[str, float],
    ) -> None:
        """``clock_offsets``: seconds by which a host's clock is ahead."""
        self.history = History()
        self.events_read: dict[int, int] = {}
        """How far each node's ``events.jsonl`` has been heard."""
        self.log_bytes: dict[int, int] = {}
        """Bytes of logs that came through each node's present channel."""
        self._plan = plan
        self._machine = machine
        self._logs = logs
        self._display = display
        self._clock_offsets = clock_offsets
        self._ranks_up = 0

    def take(self, node: int, reply: relay.Reply, now: float) -> list[Action]:
        """Keep what is to be kept of a reply; what the run does about it."""
        host = self._plan.nodes[node].host
        match reply:
            case relay.LogPiece():
                self.log_bytes[node] = self.log_bytes.get(node, 0) + len(reply.data)
                self._machine.progressed(node, now)
                self._logs.take(host, reply, now)
            case relay.HostEvent():
                self._machine.progressed(node, now)
                return self._take_event(node, reply, now)
            case relay.GarbledEvent():
                self.events_read[node] = reply.offset
                why = f"what it tells of its run is not an event: {reply.why}"
                return self._machine.node_failed(node, why, time.time(), now)
            case relay.CaughtUp():
                self.history.waiting.discard(node)
            case relay.Complete():
                self.history.waiting.discard(node)
                self._logs.complete(host, reply.logs)
                return self._machine.complete(node, now)
            case relay.AgentGone():
                return self._machine.agent_gone(node, reply.left, time.time(), now)
            case relay.Probed() if reply.node_rank < len(self._plan.nodes):
                return self._machine.probed(reply.node_rank, reply.alive, now)
            case relay.Absent():
                self.history.waiting.discard(node)
                if self.history.never_started(host):
                    return self._machine.never_started(node, now)
                return self._machine.absent(node, reply.reason, now)
            case relay.Failed():
                why = f"{reply.what}: {reply.reason}"
                return self._machine.node_failed(node, why, time.time(), now)
        return []

    def _take_event(self, node: int, reply: relay.HostEvent, now: float) -> list[Action]:
        host, event = self._plan.nodes[node].host, reply.event
        offset = self._clock_offsets.get(host, 0.0)
        at = event.time - offset
        self.events_read[node] = reply.offset
        if reply.offset > self.history.recorded.get(node, 0):
            about = {"host": host, "node_rank": node, "offset": reply.offset}
            self._logs.record(about | msgspec.to_builtins(event) | {"time": at}, now)
        if isinstance(event, RankStarted):
            self._ranks_up += 1
            self._display.awaiting(f"{self._ranks_up} of {self._plan.world_size} ranks up, importing")
        if isinstance(event, RankExited):
            # A rank that raised failed then, however long its exit handlers took.
            at = (event.error.time if event.error else event.ended) - offset
            event = msgspec.structs.replace(event, ended=event.ended - offset)
        return self._machine.agent_event(node, event, at, now)
