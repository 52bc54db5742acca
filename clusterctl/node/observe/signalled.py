"""Has a rank's faulthandler write all its stacks: for Pythons and torches without a debug server.

The signal would end whoever does not handle it, and faulthandler writes to a number of a descriptor, whatever
has that number by now. So both are looked at first.
"""

from __future__ import annotations

import os
import signal
import time

from ..shared.processes import handles, send
from .debug_server import NoAnswer

_LOOK = 0.05
_QUIET = 1.0
_LONGEST = 4 << 20
_FIRST = 200


def stacks(path, pid, timeout):
    """The text of all its threads. Raises NoAnswer."""
    number = signal.SIGRTMIN + 5
    if not handles(pid, number):
        raise NoAnswer("it does not handle the signal that would show its stacks")
    if not _writes_to(pid, path):
        raise NoAnswer("it has closed the file for its stacks")
    try:
        os.truncate(path, 0)
        send(pid, number)
        return _written(path, timeout)
    except OSError as error:
        raise NoAnswer("its stacks cannot be read: %s" % (error.strerror or error)) from error


def _writes_to(pid, path):
    """Only the lowest descriptors that it can have are looked at."""
    for number in range(_FIRST, _FIRST + 64):
        try:
            if os.readlink("/proc/%d/fd/%d" % (pid, number)) == os.path.realpath(path):
                return True
        except OSError:
            continue
    return False


def _written(path, timeout):
    deadline = time.monotonic() + timeout
    size, since = 0, time.monotonic()
    while time.monotonic() < deadline:
        time.sleep(_LOOK)
        now = os.stat(path).st_size
        if now != size:
            size, since = now, time.monotonic()
        elif size and time.monotonic() - since > _QUIET:
            break
    if not size:
        raise NoAnswer("it did not show its stacks within %g s" % timeout)
    with open(path, encoding="utf-8", errors="replace") as stream:
        return stream.read(_LONGEST)
