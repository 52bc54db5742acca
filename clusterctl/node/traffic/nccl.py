"""libnccl of this host, asked in a child process under the variables of the run, its port held open."""

import contextlib
import json
import os
import select
import subprocess
import sys
import threading
import time

from ..shared import wire
from ..shared.environment import environment

MOST_SAID = 1 << 20


class Nccl:
    """One question to libnccl. What cannot be known is told as ``unknown``: a child that crashed or is late
    says nothing about the network."""

    def __init__(self, order, source):
        self.order = order
        self.source = source.encode("utf-8")
        self.child: "subprocess.Popen[bytes] | None" = None

    def ask(self):
        """Emit the answer as soon as there is one. Returns when the child is gone, and the port with it: it
        ends with the thread that started it."""
        try:
            answer = self._ask()
        except OSError as error:
            answer = {"unknown": "it could not be asked: %s" % (error.strerror or error)}
        wire.emit({"is": "nccl", "nccl": answer})
        if self.child is not None:
            self.child.wait()

    def start(self):
        threading.Thread(target=self.ask, daemon=True).start()

    @property
    def holds(self):
        """Whether the port is still open."""
        return self.child is not None and self.child.poll() is None

    def end(self):
        if self.child is not None:
            self.child.kill()
            self.child.wait()

    def _ask(self):
        python = self.order["python"] or sys.executable
        environ = environment(python, self.order["env"], self.order["removed"], os.environ)
        environ["NCCL_DEBUG_FILE"] = "/dev/stderr"  # else it would write where the user wants logs of a run
        self.child = child = subprocess.Popen(
            [python, "-", self.order["library"]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environ,
            cwd="/",  # a script's own folder comes first in its path, but no script lies here
        )
        assert child.stdin is not None
        with contextlib.suppress(BrokenPipeError), child.stdin as source:
            source.write(self.source)  # who does not read it says why
        return _heard(child, self.order["timeout"])


def _heard(child, timeout):
    deadline, said = time.monotonic() + timeout, b""
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or len(said) > MOST_SAID:
            child.kill()
            return {"unknown": "libnccl has not answered within %g s" % timeout}
        if not select.select([child.stdout], [], [], left)[0]:
            continue
        data = os.read(child.stdout.fileno(), 1 << 16)
        said += data
        for line in said.split(b"\n")[:-1]:
            if line.startswith(b'{"nccl"'):
                return json.loads(line.decode("utf-8"))["nccl"]
        if not data:
            return {"unknown": _why_it_ended(child.wait(), said)}


def _why_it_ended(code, said):
    if code < 0:
        return "asking libnccl was ended by signal %d" % -code
    lines = [line.strip() for line in said.decode("utf-8", "replace").splitlines() if line.strip()]
    return "asking libnccl ended with %d%s" % (code, ": " + lines[-1][:200] if lines else "")
