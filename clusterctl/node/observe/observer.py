"""The observer: tells every few seconds what the ranks of this node have done, and looks at them when asked.

A child of the relay, and a process of its own: whatever it waits for, nobody else does. Orders come as lines
of JSON, what it has to tell goes out as such. It ends when its input does, or the relay.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time

from ..run.directory import JOB, NodeDirectory
from ..shared.processes import die_with_parent
from ..shared.wire import sendable
from .activity import Ranks, Sampler
from .evidence import look

# A pause is so many times the CPU that one sample takes: less than half a percent of a core, whatever is
# there to be counted.
_PAUSES = 250
_write = threading.Lock()


def main(arguments):
    die_with_parent(int(arguments[1]))
    os.nice(5)
    directory = NodeDirectory(arguments[0])
    job = directory.read(JOB)
    if job is None:
        return 1  # the run is over
    return Observer(directory, job).main()


class Observer:
    def __init__(self, directory, job):
        self._directory = directory
        self._numbers = job["ranks"]
        self._places = [job["cwd"]]
        if job["subdirectory"]:
            self._places.append(os.path.normpath(job["cwd"])[: -len(job["subdirectory"]) - 1])
        self._looking = threading.Lock()

    def main(self):
        """The input ends this process, the loop of samples never ends by itself."""
        for line in sys.stdin:
            order = json.loads(line)
            if order["do"] == "watch":
                threading.Thread(target=self._watch, args=(order,), daemon=True).start()
            else:
                threading.Thread(target=self._look, args=(order,), daemon=True).start()
        os._exit(0)

    def _watch(self, order):
        sampler = Sampler(self._directory, Ranks(self._directory, self._numbers), order["port"])
        while True:
            began = time.thread_time()
            tell(dict(sampler.sample(), **{"is": "activity"}))
            time.sleep(max(order["interval"], _PAUSES * (time.thread_time() - began)))

    def _look(self, order):
        with self._looking:
            ranks = Ranks(self._directory, self._numbers)
            found = look(order["look"], ranks, self._directory.stacks, order["port"], self._places)
        tell({"is": "evidence", "evidence": sendable(found)})


def tell(message):
    line = json.dumps(message) + "\n"
    with _write:
        sys.stdout.write(line)
        sys.stdout.flush()
