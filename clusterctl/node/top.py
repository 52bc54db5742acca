"""Tells every few seconds what this host and its GPUs do, and for whom, until its input ends."""

from __future__ import annotations

import os
import re
import sys
import threading
import time

from .observe.nvml import Cards
from .observe.samples import Counters, memory_of
from .shared.files import owner_of, read
from .shared.processes import command_of, environ_marks, stat_of
from .shared.wire import emit, sendable

# How long the first word waits for the driver of the GPUs, and for a share of the cores' time.
FIRST = 3.0
LOOK = 0.5
LATE = 15.0
MOST_JOBS = 512
TAG = re.compile(r"([0-9A-Za-z][0-9A-Za-z._-]{0,100})/[0-9]{1,6}(\.[0-9]{1,6})?\Z")


def main(request, files):
    threading.Thread(target=end_with_input, daemon=True).start()
    every = max(0.5, float(request["every"]))
    gpus = Gpus(every)
    threading.Thread(target=gpus.go_on, daemon=True).start()
    before = Counters()
    time.sleep(LOOK)
    gpus.told.wait(FIRST)
    while True:
        now = Counters()
        emit(sendable(seen(now, before, gpus)))
        before = now
        time.sleep(every)


def end_with_input():
    while sys.stdin.buffer.read(4096):
        pass
    os._exit(0)


def seen(now, before, gpus):
    told = now.since(before)
    rows, holders = gpus.newest()
    return {
        "is": "seen",
        "time": time.time(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "cpu": told["cpu"],
        "memory": told["mem"],
        "memory_total": memory_of("MemTotal"),
        "driver": gpus.driver if rows is not None or gpus.driver != "told" else "asked",
        "gpus": rows,
        "jobs": jobs(holders)[:MOST_JOBS],
    }


class Gpus:
    """Asks the driver in a thread that nobody waits for: it may never answer."""

    def __init__(self, every):
        self.told = threading.Event()
        self.driver = "asked"
        self._every = every
        self._cards = Cards()
        self._newest: tuple[list[object] | None, list[object]] = (None, [])
        self._moment = 0.0

    def go_on(self):
        if not self._cards.load():
            self.driver = "none"
            self.told.set()
            return
        while True:
            self._cards.ask()
            rows = [self._row(index, row) for index, row in enumerate(self._cards.rows or ())]
            holders = [holder for index in range(len(rows)) for holder in self._cards.holders(index)]
            self._newest, self._moment, self.driver = (rows, holders), time.monotonic(), "told"
            self.told.set()
            time.sleep(self._every)

    def newest(self):
        """(rows, holders); (None, []) where the driver has not answered for a while."""
        late = time.monotonic() - self._moment > LATE + self._every
        return (None, []) if late else self._newest

    def _row(self, index, row):
        if row is None:
            return None
        name, total = (self._cards.names or ())[index]
        use, memory, temperature, watts, _, held_back = row
        return {
            "name": name,
            "total": total,
            "use": use,
            "memory": memory,
            "temperature": temperature,
            "watts": watts,
            "held_back": held_back,
        }


def jobs(holders):
    """Those of ``holders``, (card, pid, bytes), and ranks of runs that hold no card."""
    marks = {pid: tag for tag, pids in environ_marks(own()).items() for pid in pids}
    found = [job(pid, marks.get(pid, ""), index, memory) for index, pid, memory in holders]
    known = {pid for _, pid, _ in holders}
    ranks = {pid: rank_of(pid) for pid in marks}
    held = {(marks.get(pid), ranks.get(pid)) for pid in known}
    for pid in sorted(marks):
        if pid not in known and (marks[pid], ranks[pid]) not in held and is_script(pid, ranks):
            found.append(job(pid, marks[pid]))
    return found


def is_script(pid, ranks):
    """Whether it is the rank itself, which a waiter has started: what it starts has its environment, too."""
    stat = stat_of(pid)
    if stat is None or ranks[pid] is None:
        return False
    above = stat_of(stat.parent) if ranks.get(stat.parent) is not None else None
    return above is not None and ranks.get(above.parent) is None


def own():
    pids = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
    return {pid for pid in pids if uid_of(pid) == os.geteuid()}


def uid_of(pid):
    try:
        return os.stat("/proc/%d" % pid).st_uid
    except OSError:
        return None


def job(pid, tag, gpu=None, memory=None):
    stat = stat_of(pid)
    found = TAG.match(tag)
    return {
        "pid": pid,
        "user": owner_of(pid)[0],
        "command": command_of(pid),
        "gpu": gpu,
        "memory": memory,
        "since": begun(stat) if stat else None,
        "run": found.group(1) if found else "",
        "rank": rank_of(pid) if found else None,
    }


def begun(stat):
    """Wall clock."""
    booted = re.search(r"^btime (\d+)", read("/proc/stat"), re.MULTILINE)
    return int(booted.group(1)) + stat.started / os.sysconf("SC_CLK_TCK") if booted else None


def rank_of(pid):
    found = re.search(r"(?:^|\0)RANK=([0-9]{1,6})(?:\0|$)", read("/proc/%d/environ" % pid))
    return int(found.group(1)) if found else None
