"""What the relays of a run say: logs and events to the recorder, the rest to the machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from clusterctl.messages import relay
from clusterctl.messages.events import Noted, RankExited, RankStarted
from clusterctl.plan.model import LaunchPlan
from clusterctl.run.actions import Action
from clusterctl.run.display import Display
from clusterctl.run.history import History
from clusterctl.run.machine import Machine
from clusterctl.run.recorder import Recorder, Stored
from clusterctl.settings import RUN


class Replies:
    """Takes every reply once, in the order of its host."""

    def __init__(
        self,
        plan: LaunchPlan,
        machine: Machine,
        recorder: Recorder,
        display: Display,
        clock_offsets: Mapping[str, float],
    ) -> None:
        """``clock_offsets``: seconds by which a host's clock is ahead."""
        self.history = History()
        self._events_read: dict[int, int] = {}
        """How far each node's ``events.jsonl`` has been heard."""
        self._session = dict.fromkeys(range(len(plan.nodes)), 0)
        """Each node's present session,"""
        self._stored = dict.fromkeys(range(len(plan.nodes)), 0)
        """how many bytes of logs came through it and are stored,"""
        self._unacknowledged: set[int] = set()
        """and who has not been told yet."""
        self._shown: dict[tuple[str, str], int] = {}
        self._plan = plan
        self._machine = machine
        self._recorder = recorder
        self._display = display
        self._clock_offsets = clock_offsets
        self._ranks_up = 0

    def relay_request(self, node: int) -> dict[str, Any]:
        """What a new relay on this node is told: where to go on."""
        offsets = self._recorder.offsets(self._plan.nodes[node].host)
        return {
            "run": self._plan.run,
            "node_rank": node,
            "attempt": self._plan.attempt,
            "offsets": offsets | {"events.jsonl": self._events_read.get(node, 0)},
            "lease": RUN.lease(self._plan.on_disconnect),
        }

    def new_session(self, node: int) -> None:
        """What comes from this node now comes through another session."""
        self._session[node] += 1
        self._stored[node] = 0
        self._unacknowledged.discard(node)

    def stored(self, report: Stored) -> None:
        """Bytes of a log need no more room here; news only while their session lasts."""
        if report.session == self._session[report.node]:
            self._stored[report.node] += report.size
            self._unacknowledged.add(report.node)

    def unacknowledged(self) -> list[tuple[int, int]]:
        """(node, bytes of logs stored in its present session) where that has grown since the last call."""
        found = [(node, self._stored[node]) for node in self._unacknowledged]
        self._unacknowledged.clear()
        return found

    def take(self, node: int, reply: relay.Reply, now: float) -> list[Action]:
        """Keep what is to be kept of a reply; what the run does about it."""
        host = self._plan.nodes[node].host
        match reply:
            case relay.LogPiece():
                self._machine.progressed(node, now)
                self._recorder.store(host, reply, node, self._session[node])
                self._show(host, reply)
            case relay.LogCut():
                self._recorder.cut(host, reply)
            case relay.HostEvent():
                self._machine.progressed(node, now)
                return self._take_event(node, reply, now)
            case relay.GarbledEvent():
                self._events_read[node] = reply.offset
                why = f"what it tells of its run is not an event: {reply.why}"
                return self._machine.node_failed(node, why, self._machine.epoch + now, now)
            case relay.CaughtUp():
                self.history.waiting.discard(node)
            case relay.Complete():
                self.history.waiting.discard(node)
                self._recorder.complete(host, reply.logs)
                return self._machine.complete(node, now)
            case relay.AgentGone():
                return self._machine.agent_gone(node, reply, self._machine.epoch + now, now)
            case relay.Probed() if reply.node_rank < len(self._plan.nodes):
                return self._machine.probed(reply.node_rank, reply.alive, now)
            case relay.Activity():
                self._machine.hangs.activity(node, reply, now)
            case relay.Evidence():
                return self._machine.hangs.evidence(node, reply.evidence)
            case relay.Absent():
                self.history.waiting.discard(node)
                if self.history.never_started(host):
                    return self._machine.never_started(node, now)
                return self._machine.absent(node, reply.reason, now)
            case relay.Failed():
                why = f"{reply.what}: {reply.reason}"
                return self._machine.node_failed(node, why, self._machine.epoch + now, now)
        return []

    def _show(self, host: str, piece: relay.LogPiece) -> None:
        """What was not shown before: a new session begins at what is stored. Dumps are for no screen."""
        if not piece.name.endswith(".log"):
            return
        seen = self._shown.get((host, piece.name), 0)
        end = piece.offset + len(piece.data)
        if end > seen:
            self._shown[host, piece.name] = end
            self._display.output(host, piece.name, piece.data[max(0, seen - piece.offset) :])

    def _take_event(self, node: int, reply: relay.HostEvent, now: float) -> list[Action]:
        host, event = self._plan.nodes[node].host, reply.event
        offset = self._clock_offsets.get(host, 0.0)
        at = event.time - offset
        self._events_read[node] = reply.offset
        if reply.offset > self.history.recorded.get(node, 0):
            about = {"host": host, "node_rank": node, "offset": reply.offset}
            self._recorder.record(about | msgspec.to_builtins(event) | {"time": at})
        if isinstance(event, RankStarted):
            self._ranks_up += 1
            self._display.awaiting(f"{self._ranks_up} of {self._plan.world_size} ranks up, importing")
            if self._ranks_up == self._plan.world_size:
                self._display.up()
        if isinstance(event, Noted):
            self._display.say(f"{host}: {event.text}")
        if isinstance(event, RankExited):
            # A rank that raised failed then, however long its exit handlers took.
            at = (event.error.time if event.error else event.ended) - offset
            event = msgspec.structs.replace(event, ended=event.ended - offset)
        return self._machine.agent_event(node, event, at, now)
