"""Ranks of a collective over all hosts that run here, and how far each has come.

What is told of a rank that stands still is this kernel's word: that its process is stopped, or that a peer's
kernel leaves it without an answer. That it is merely slow is no news.
"""

import os
import re
import signal
import threading

from ..probe.system import progress
from ..shared import wire
from ..shared.environment import environment
from . import sockets
from .child import Child
from .imported import import_torch

LOOK = 1.0
LOOKS = 5
"""A rank stands still that has computed next to nothing, and waited for no core, for so many looks."""
IDLE_SHARE = 0.05
NCCL_SAYS = re.compile("NCCL (INFO (Bootstrap|NET/|Using network|.* via NET)|WARN)")
LOG_LINES = 60


class Ranks:
    """``environ`` is the environment of the session with the variables of the run that are known by then."""

    def __init__(self, files, environ):
        self._files = files
        self._environ = environ
        self._imported = None
        self._groups = {}

    def import_torch(self, order):
        answer, self._imported = import_torch(order, self._files, self._environ)
        return answer

    def join(self, order):
        """Begin the ranks of the order; their news go to the controller by themselves."""
        self._groups[order["group"]] = group = _Group(order["group"])
        for rank in order["ranks"]:
            # Of the session, not of the examination: what a launch would start from.
            environ = environment(order["python"], rank.pop("env"), rank.pop("removed"), os.environ)
            member = group.add(dict(rank, environ=environ))
            if order["reuse"] and self._imported:
                member.child, self._imported = self._imported, None
            else:
                member.child = Child(order["python"], environ, self._files)
            member.child.hand_to(member.hear)
        group.begin()

    def leave(self, number=None):
        """End the ranks of one group, or all, and the process of the import."""
        for each in [number] if number is not None else list(self._groups):
            group = self._groups.pop(each, None)
            if group:
                group.end()
        if number is None and self._imported:
            self._imported.end()
            self._imported = None


class _Group:
    def __init__(self, number):
        self._number = number
        self._members = []
        self._waiting = []
        self._told = None
        self._lock = threading.Lock()
        self._over = threading.Event()

    def add(self, order):
        self._members.append(_Member(order, self.tell))
        return self._members[-1]

    def begin(self):
        first, *others = self._members
        if first.order["rank"] == 0:  # who joins needs the port of its store
            self._waiting = others
        else:
            self._run(others)
        self._run([first])
        threading.Thread(target=self._look, daemon=True).start()

    def tell(self):
        """All there is to know, if any of it is news."""
        with self._lock:
            self._join_others()
            known = [dict(member.known) for member in self._members]
            if known != self._told and not self._over.is_set():
                self._told = known
                wire.emit({"is": "ranks", "group": self._number, "ranks": wire.sendable(known)})

    def _run(self, members):
        for member in members:
            member.child.run("e2e.allreduce", ends_after=member.order["timeout"], **member.order)

    def _join_others(self):
        port = self._members[0].known.get("port")
        if port and self._waiting:
            waiting, self._waiting = self._waiting, []
            for member in waiting:
                environ = dict(member.order["environ"], MASTER_PORT=str(port))
                member.order.update(master_port=port, environ=environ)
            self._run(waiting)

    def end(self):
        with self._lock:
            self._over.set()
        for member in self._members:
            member.child.end()

    def _look(self):
        while not self._over.wait(LOOK):
            for member in self._members:
                if not member.known["done"] and not member.known["ended"]:
                    member.look()
            self.tell()


class _Member:
    def __init__(self, order, tell):
        self.child: "Child"
        self.known = {
            "stage": "",
            "done": False,
            "error": "",
            "ended": "",
            "unanswered": [],
            "state": "works",
            "missing": [],
        }
        self._times = []
        self.order = order
        self._tell = tell
        self._looks = []

    def hear(self, told):
        if told is None:
            said = self.child.last_words
            by = "killed by signal %d" % self.child.signal if self.child.signal else "ended: %s" % said
            if self.child.signal != signal.SIGALRM:  # by the limit that we have set: it is late, no more
                self.known.update(ended=by, state="works")
        else:
            if "size" in told:
                self._times.append([told.pop("size"), told.pop("seconds")])
                self.known["times"] = list(self._times)
            self.known.update(told, state="works", unanswered=[])
        if self.known["done"] or self.known["error"] or self.known["ended"]:
            self.known["log"] = [line for line in self.child.said if NCCL_SAYS.search(line)][-LOG_LINES:]
        self._looks = []
        self._tell()

    def look(self):
        computed, states = progress(self.child.pid)[0], self.child.states()
        self._looks = [*self._looks[-LOOKS:], (computed, bool(states & {"R", "D"}))]
        if states and states <= {"T", "t"}:
            self.known["state"] = "stopped"
        elif len(self._looks) > LOOKS and self._is_still():
            self.known["state"] = "waits"
        else:
            self.known["state"] = "works"
        self.known["unanswered"] = [list(each) for each in sockets.unanswered(self.child.pid)]

    def _is_still(self):
        computed = self._looks[-1][0] - self._looks[0][0]
        return computed < IDLE_SHARE * LOOKS * LOOK and sum(busy for _, busy in self._looks) <= 1
