"""The observer as its relay sees it: orders go in, what it tells is handed on. It may be stuck, or gone."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from typing import Any

from ..shared.wire import emit

_LONGEST = 1 << 20


class Observation:
    def __init__(self, directory):
        self._directory = directory
        self._child: Any = None
        self._watch: dict[str, object] | None = None

    def order(self, order):
        """Start it if it does not run, and hand it an order. What it cannot be told is lost, for whatever
        reason: no run fails of that, and the controller waits for no answer without an end."""
        orders = [order]
        with contextlib.suppress(OSError):
            if self._child is None or self._child.poll() is not None:
                self._child = self._started()
                orders = [self._watch, order] if self._watch is not None else orders
            if order["do"] == "watch":
                self._watch = order
            for each in orders:
                os.write(self._child.stdin.fileno(), json.dumps(each).encode() + b"\n")

    def end(self):
        """It ends by itself; one that waits in the kernel is not waited for."""
        if self._child is not None:
            self._child.kill()
            self._child = None

    def _started(self):
        program = self._directory.path("code/observer.py")
        child: Any = subprocess.Popen(
            [sys.executable, "-I", "-S", program, self._directory.root, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
        )
        os.set_blocking(child.stdin.fileno(), False)
        threading.Thread(target=hand_on, args=(child.stdout,), daemon=True).start()
        return child


def hand_on(stream):
    """Lines of JSON to the controller. Samples may wait for the next beat."""
    for line in iter(lambda: stream.readline(_LONGEST), b""):
        with contextlib.suppress(ValueError):
            told = json.loads(line)
            emit(told, wait=isinstance(told, dict) and told.get("is") == "activity")
