"""Idle devices of this host at work, each in a process of its own; and what NVIDIA's own tool says."""

import os
import signal
import subprocess
import threading

from ..shared.environment import environment
from ..shared.files import which
from .child import Child

DCGM_LIMIT = 60000


def compute(order):
    """How each device fared with `gemm`. A device that hangs costs its own process only."""
    environ = environment(order["python"], order["env"], order["removed"], os.environ)
    works = [_Work(order, device, environ, order["sources"]) for device in order["devices"]]
    for work in works:
        work.over.wait()
    return {"devices": [work.known for work in works]}


class _Work:
    def __init__(self, order, device, environ, sources):
        self.over = threading.Event()
        self.known = {"device": device, "stage": "begun"}
        self._child = Child(order["python"], environ, sources)
        self._child.hand_to(self._hear)
        self._child.run("e2e.gemm", ends_after=order["timeout"], device=device, size=order["size"])

    def _hear(self, told):
        if self.over.is_set():
            return
        if told is not None:
            self.known.update(told)
        elif self._child.signal == signal.SIGALRM:
            self.known["late"] = True  # by the limit that we have set
        elif self._child.signal:
            self.known["ended"] = "killed by signal %d" % self._child.signal
        else:
            self.known["ended"] = "ended: %s" % self._child.last_words
        if told is None or told.get("done") or told.get("error"):
            self.over.set()
            threading.Thread(target=self._child.end, daemon=True).start()


def dcgm(order):
    """The text of ``dcgmi diag -r 1 --json``."""
    tool = which("dcgmi", os.environ.get("PATH", "") + ":/usr/bin:/usr/local/bin")
    if not tool:
        return {"present": False}
    try:
        done = subprocess.run(
            [tool, "diag", "-r", "1", "--json"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=order["timeout"],
        )
    except subprocess.TimeoutExpired:
        return {"present": True, "late": True}
    text = done.stdout.decode("utf-8", "replace")
    if len(text) > DCGM_LIMIT:
        return {"present": True, "error": "its answer is longer than %d characters" % DCGM_LIMIT}
    return {"present": True, "text": text}
