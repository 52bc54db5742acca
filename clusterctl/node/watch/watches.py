"""Watches a node while a run lives: disks, memory limits, the kernel's log, links, GPUs.

A process of its own, so that a file server that does not answer holds up nobody else. It writes one JSON
object a line to its standard output, for the agent: what has become bad, once for each subject, and when it
is so no more. SIGUSR1 asks for a look at once, which it answers with ``{"looked": true}``. It ends with its
agent.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys

from ..observe.nvml import Cards as NvidiaCards
from ..observe.samples import HostSamples
from ..run.directory import JOB, NodeDirectory
from ..shared.processes import die_with_parent
from .devices import Cards, Link
from .kernel import KernelLog
from .memory import Memory
from .space import Space

TICK = 2.0
MOST_WARNINGS = 200
LONGEST_TEXT = 1000


class Teller:
    """Turns what watches find, again and again, into news. ``bad`` None: nobody knows, so nothing is new."""

    def __init__(self, out):
        self._out = out
        self._bad: set[str] = set()
        self._left = MOST_WARNINGS

    def state(self, what, subject, bad, text, files=()):
        if bad and subject not in self._bad:
            self._bad.add(subject)
            self.tell(what, subject, text, files)
        elif bad is False and subject in self._bad:
            self._bad.discard(subject)
            self.tell(what, subject, text, over=True)

    def tell(self, what, subject, text, files=(), over=False):
        if self._left > 0:
            self._left -= 1
            found = [[_sendable(path), size] for path, size in files]
            self.write(what=what, subject=_sendable(subject), text=_sendable(text), over=over, files=found)

    def write(self, **fields):
        os.write(self._out, json.dumps(fields).encode() + b"\n")


def _sendable(text):
    return text.encode("utf-8", "backslashreplace").decode()[:LONGEST_TEXT]


class Watches:
    def __init__(self, watches, teller):
        self._watches = list(watches)
        self._teller = teller

    def look(self, *, at_once=False):
        """``at_once``: something has failed, and what is slow has a moment to answer."""
        for watch in list(self._watches):
            try:
                watch.look(self._teller, at_once)
            except BrokenPipeError:
                raise
            except Exception as error:  # one that breaks must not end the others
                self._watches.remove(watch)
                self._teller.tell("unseen", type(watch).__name__, "a watch broke: %r" % error)


def watches_of(job, root):
    """All that a job asks for; ``root`` is the run's directory. The environment is that of the ranks."""
    home, temporary = os.path.expanduser("~"), os.environ.get("TMPDIR") or "/tmp"
    more = [os.path.join(job["cwd"], os.path.expanduser(place)) for place in job.get("watched", ())]
    yield Space([job["cwd"], root, home, temporary, "/dev/shm", *more])
    yield Memory()
    yield KernelLog()
    if job.get("interface"):
        yield Link(job["interface"])
    yield Cards()


def main(arguments):
    die_with_parent(int(arguments[1]))
    with contextlib.suppress(OSError):
        os.nice(10)
    heard, speak = os.pipe()
    os.set_blocking(speak, False)
    signal.set_wakeup_fd(speak, warn_on_full_buffer=False)
    signal.signal(signal.SIGUSR1, lambda *_: None)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    root = arguments[0]
    directory = NodeDirectory(root)
    job = directory.read(JOB)
    if job is None:
        return 0
    HostSamples(directory.path(directory.samples), NvidiaCards()).start()
    teller = Teller(sys.stdout.fileno())
    watches = Watches(watches_of(job, root), teller)
    try:
        while True:
            asked = bool(select.select([heard], [], [], TICK)[0])
            if asked:
                os.read(heard, 4096)
            watches.look(at_once=asked)
            if asked:
                teller.write(looked=True)
    except BrokenPipeError:
        return 0
