"""A process of the training interpreter, seen from the examination: programs in, lines out, a look at it."""

import collections
import json
import subprocess
import threading

from ..shared.files import listing, read
from .program import MARK

# No quote, so that whoever looks at the process list can copy it.
BOOT = "import sys;b=sys.stdin.buffer;exec(b.read(int(b.readline())))"
LAST_LINES = 400


class Child:
    """What it tells goes to whoever `hand_to` names, and is kept until then.

    It ends with this process: its stdin ends, and so does it.
    """

    def __init__(self, python, environ, sources):
        self._on_told = None
        self._kept = []
        self._is_over = False
        self._handing = threading.Lock()
        self._sources = sources
        self._said: "collections.deque[str]" = collections.deque(maxlen=LAST_LINES)
        self._process = subprocess.Popen(
            [python, "-c", BOOT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environ,
            cwd="/",  # a script's own folder comes first in its path, but no script lies here
        )
        assert self._process.stdin and self._process.stdout and self._process.stderr
        self._programs, self._told = self._process.stdin, self._process.stdout
        self._printed = self._process.stderr
        self.pid = self._process.pid
        self._listening = threading.Thread(target=self._listen, daemon=True)
        self._hearing = threading.Thread(target=self._hear, daemon=True)
        self._listening.start()
        self._hearing.start()
        program = sources["e2e.program"].encode("utf-8")
        self._write(b"%d\n" % len(program) + program)

    def run(self, name, **order):
        """Hand over the program ``name`` of the bundle; what it tells comes to ``on_told``."""
        order.update(name=name, program=self._sources[name])
        self._write(json.dumps(order).encode("utf-8") + b"\n")

    def _write(self, data):
        try:
            self._programs.write(data)
            self._programs.flush()
        except OSError:  # it is gone already: its end is told by whoever reads from it
            return

    def _listen(self):
        for line in iter(lambda: self._printed.readline(4096), b""):
            if line.strip():
                self._said.append(line.decode("utf-8", "replace").strip())

    def _hear(self):
        for line in self._told:
            _, mark, message = line.decode("utf-8", "replace").partition(MARK)
            if mark:
                self._tell(json.loads(message))
        self._listening.join(1.0)
        self._process.wait()
        self._tell(None)

    def _tell(self, message):
        with self._handing:
            self._is_over = message is None
            if self._on_told is None:
                self._kept.append(message)
            else:
                self._on_told(message)

    def hand_to(self, on_told):
        """``on_told(message)`` is called in a thread of its own; with None when nothing more will come."""
        with self._handing:
            self._on_told = on_told
            kept, self._kept = self._kept, []
            for message in kept:
                on_told(message)
            if self._is_over and None not in kept:
                on_told(None)

    @property
    def signal(self):
        """Number of the signal that ended it; 0 where none did."""
        return max(0, -(self._process.poll() or 0))

    @property
    def last_words(self):
        return self._said[-1] if self._said else ""

    @property
    def said(self):
        """The last lines it, and its libraries, printed."""
        return tuple(self._said)

    def states(self):
        """The letter of each of its threads, as /proc has it."""
        rows = (
            read("/proc/%d/task/%s/stat" % (self.pid, task)) for task in listing("/proc/%d/task" % self.pid)
        )
        return {row.rpartition(")")[2].split()[0] for row in rows if row}

    def end(self):
        self._process.kill()
        self._process.wait()
