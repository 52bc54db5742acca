"""The ranks of one node as their waiters report them: who has started, who has ended, and how to end them.

Signals go to the ranks themselves, all at once and once each. Their engine learns nothing meanwhile: the
waiter of a failed rank stays until it is released: engines answer a failure with signals of their own.
"""

from __future__ import annotations

import signal
import time
from typing import Any

from ..shared.processes import descendants, handles, is_running, process_table, send
from .directory import error_of, exit_of, start_of


class Ranks:
    def __init__(self, directory, numbers):
        self._directory = directory
        self._numbers = numbers
        self._whole_tree: set[int] = set()
        self._released: set[int] = set()
        self.started: dict[int, dict[str, Any]] = {}
        self.ended: dict[int, dict[str, Any]] = {}

    def look(self):
        """(starts, ends) that are new; ends in the order they happened.

        One end may have led to another. So whoever finds a report looks again, until there is nothing new:
        the reports that led to it are there by then.
        """
        starts, ends = [], []
        for rank in self._numbers:
            if rank not in self.started:
                report = self._directory.read(start_of(rank))
                if report is not None:
                    self.started[rank] = report
                    starts.append(report)
        grew = True
        while grew:
            found = [report for report in map(self._end, set(self.started) - set(self.ended)) if report]
            self.ended.update((report["rank"], report) for report in found)
            ends += found
            grew = bool(found)
        return starts, sorted(ends, key=lambda report: report["ended"])

    def _end(self, rank):
        """How the rank ended, as its waiter says. A waiter that was killed took the rank with it."""
        start = self.started[rank]
        alone = not self._waiter_runs(start)
        report = self._directory.read(exit_of(rank))
        if report is not None or not alone or self._directory.is_missing(exit_of(rank)):
            return report
        killed = int(signal.SIGKILL)
        return {
            "rank": rank,
            "pid": start["pid"],
            "code": 128 + killed,
            "signal": killed,
            "started": start["time"],
            "ended": time.time(),
            "asked": None,
            "peak_memory": 0,
        }

    def error(self, rank):
        """What its script raised, or None. The script could have written anything there."""
        found = self._directory.read(error_of(rank))
        kinds = {"type": str, "message": str, "traceback": str, "time": float}
        if not isinstance(found, dict) or not all(isinstance(found.get(k), kinds[k]) for k in kinds):
            return None
        return {key: found[key] for key in kinds}

    def terminate(self, ranks=None):
        """TERM the ranks that run, or those given.

        What handles the signal gets it alone: its data loaders must live while it saves. Anything else, such
        as a shell that waits for python, gets it together with all it has started.
        """
        table = process_table()
        for rank in self._running() if ranks is None else ranks:
            pid = self.started[rank]["pid"]
            if handles(pid, signal.SIGTERM):
                send(pid, signal.SIGTERM)
            else:
                self._whole_tree.add(rank)
                for each in [pid, *descendants({pid}, table)]:
                    send(each, signal.SIGTERM)

    def hand_on(self, number):
        """A signal of the user's, to the ranks; where those are shells, to what below them waits for it.

        Nobody is sent what would only kill: a rank that still imports has no handler yet.
        """
        table = process_table()
        for rank in self._running():
            pid = self.started[rank]["pid"]
            tree = [pid] if handles(pid, number) else descendants({pid}, table)
            for each in tree:
                if handles(each, number):
                    send(each, number)

    def kill(self):
        """KILL what runs of the ranks. Not their waiters, which tell how they ended."""
        table = process_table()
        waiters = {report["waiter"] for report in self.started.values() if self._waiter_runs(report)}
        for pid in descendants(waiters, table) - waiters:
            send(pid, signal.SIGKILL)

    def release_waiters(self):
        """The waiters of failed ranks may end, and with them the engine."""
        for rank, report in self.started.items():
            if rank in self.ended and rank not in self._released and self._waiter_runs(report):
                self._released.add(rank)
                send(report["waiter"], signal.SIGTERM)

    def all_over(self):
        """Whether nothing runs of any rank that has started, and each has been reported if it can be."""
        return not any(self._is_going_on(rank) for rank in self.started)

    def _is_going_on(self, rank):
        report = self.started[rank]
        if rank not in self.ended:
            return self._waiter_runs(report) or is_running(report["pid"], report["pid_started"])
        if rank in self._whole_tree:  # the shell is gone, what it had started may still save
            table = process_table()
            below = descendants({report["waiter"]}, table) if self._waiter_runs(report) else set()
            return any(table[pid].state not in ("Z", "X") for pid in below)
        return False

    def _running(self):
        return [
            rank
            for rank, report in self.started.items()
            if rank not in self.ended and is_running(report["pid"], report["pid_started"])
        ]

    def _waiter_runs(self, report):
        return is_running(report["waiter"], report["waiter_started"])
