"""A run as its directory tells it, for whoever looks on: the same screen as its launch has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clusterctl.plan.model import LaunchPlan
from clusterctl.report.findings import brief
from clusterctl.run.display import Display
from clusterctl.store.log_tail import LogTail
from clusterctl.store.runs import RunDirectory


class Ends:
    """Which hosts of an attempt have come to their end, as its events tell it."""

    def __init__(self, plan: LaunchPlan) -> None:
        self._begin({node.host: set(node.ranks) for node in plan.nodes})

    def take(self, event: Mapping[str, Any]) -> None:
        """The next of its events."""
        kind, host = event.get("event"), str(event.get("host"))
        if kind == "attempt":
            ranks = self._ranks.values()  # a spare takes those of the host that it stands for
            self._begin(dict(zip(map(str, event.get("hosts", ())), map(set, ranks), strict=False)))
        elif kind == "stopping":
            self._stopping = True
        elif kind == "rank-exit" and host in self._running:
            self._running[host].discard(event.get("rank"))
        elif kind == "ended":
            self._ended.add(host)

    @property
    def awaited(self) -> str:
        """What the end waits for, in words; empty while nothing ends."""
        left = [host for host in self._ranks if host not in self._ended]
        training = [host for host in left if self._running[host]]
        if not self._stopping and (training or not self._ended):
            return ""
        # An engine may wait for others' ranks: those are what is waited for.
        return f"waiting for {brief(training or left)} to end" if left else "waiting for the last of the logs"

    def _begin(self, ranks: dict[str, set[int]]) -> None:
        self._ranks = ranks
        self._running = {host: set(own) for host, own in ranks.items()}
        self._ended: set[str] = set()
        self._stopping = False


class Watching:
    """Shows on ``display`` what is new at each `look`; of logs that are there at the first, all or the last
    ``tail`` lines of each."""

    def __init__(
        self, directory: RunDirectory, plan: LaunchPlan, display: Display, *, tail: int | None = None
    ) -> None:
        self._directory = directory
        self._hosts = {node.host for node in plan.nodes}
        self._log_limit = plan.log_limit
        self._display = display
        self._tail = tail
        self._events = 0
        self._ends = Ends(plan)
        self._logs: dict[tuple[str, str], LogTail] = {}

    def look(self) -> None:
        """Raises OSError where this machine cannot read."""
        events, self._events = self._directory.events_from(self._events)
        for event in events:
            self._ends.take(event)
            if event.get("event") == "say":
                self._display.say(str(event.get("text")))
            if event.get("event") == "attempt":  # a spare host may have a part in it
                self._hosts.update(map(str, event.get("hosts", ())))
        for host in sorted(self._hosts):
            names = (name for name in self._directory.offsets(host) if name.endswith(".log"))
            for name in sorted(names):
                for data in self._log(host, name).news():
                    self._display.output(host, name, data)
        self._tail = None
        if awaited := self._ends.awaited:
            self._display.ending(awaited)

    def _log(self, host: str, name: str) -> LogTail:
        if (host, name) not in self._logs:
            path = self._directory.host_logs(host) / name
            self._logs[host, name] = LogTail(path, self._log_limit, lines=self._tail)
        return self._logs[host, name]
