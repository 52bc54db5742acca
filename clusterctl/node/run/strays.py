"""Processes that a run may have left though nothing says so: they work where only a run has its files.

Once a run's agent is dead, to which orphans fall, a process that has left its session and cleared its
environment can be found by nothing else. It may as well be a program that the user has started there: it is
told, and never ended.
"""

from __future__ import annotations

import os
import time

from ..shared.files import read
from ..shared.open_files import owner
from ..shared.processes import (
    DYING_TIMEOUT,
    TICK,
    command_of,
    descendants,
    environ_marks,
    is_ending,
    process_table,
)
from ..shared.wire import sendable

_DEAD = ("Z", "X")


def strays(folder, known=(), meanwhile=lambda: None):
    """{pid: working directory} of those that work below ``folder``, a run's directory or that of all runs,
    and bear no mark. Without ``known`` and what descends from them, and without what has a terminal: that is
    somebody who looks around.

    What is ending has lost its mark already, so it is waited for. ``meanwhile`` is called now and then.
    """
    deadline = time.monotonic() + DYING_TIMEOUT
    while True:
        table = process_table()
        found = _inside(folder, table)
        if not any(map(is_ending, found)) or time.monotonic() > deadline:
            break
        meanwhile()
        time.sleep(TICK)
    if not found:
        return {}
    ours = {*known, *(pid for pids in environ_marks(found).values() for pid in pids)}
    ours |= descendants(ours, table)
    return {pid: place for pid, place in sorted(found.items()) if pid not in ours}


def _inside(folder, table):
    """{pid: working directory}"""
    inside = os.path.realpath(folder) + "/"
    found = {}
    for pid, stat in table.items():
        if stat.state not in _DEAD and owner(pid) == os.geteuid() and not has_terminal(pid):
            place = working_directory_of(pid)
            if (place + "/").startswith(inside):
                found[pid] = place
    return found


def told(pids):
    """As messages have them."""
    return [[pid, sendable(command_of(pid))] for pid in pids]


def working_directory_of(pid):
    try:
        return os.readlink("/proc/%d/cwd" % pid)
    except OSError:
        return ""


def has_terminal(pid):
    fields = read("/proc/%d/stat" % pid).rpartition(")")[2].split()
    return len(fields) > 4 and fields[4] != "0"
