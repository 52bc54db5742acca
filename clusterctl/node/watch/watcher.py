"""The agent's side of the watches: starts them, hears them, ends them. Nothing here waits for them long."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from typing import Any

from ..shared.processes import send

ANSWER_TIMEOUT = 0.5


class Watcher:
    """Tells nothing until it is started, nor where it cannot be."""

    def __init__(self, directory, env):
        """``env`` is that of the ranks, whose PATH, HOME and TMPDIR count."""
        self._directory = directory
        self._env = env
        self._text = b""
        self._looked = True
        self._process: Any = None

    def start(self):
        parent = str(os.getpid())
        names = ("PATH", "HOME", "TMPDIR", "CLUSTERCTL_RUN")
        try:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-I",
                    "-S",
                    self._directory.path("code/watches.py"),
                    self._directory.root,
                    parent,
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env={name: self._env[name] for name in names if name in self._env},
            )
        except OSError:  # no memory for it, no disk: the run goes on without
            return
        os.set_blocking(self._process.stdout.fileno(), False)

    def news(self):
        """What they have told since the last call: fields of an event each."""
        if self._process is None:
            return []
        with contextlib.suppress(BlockingIOError):
            self._text += os.read(self._process.stdout.fileno(), 1 << 20)
        *lines, self._text = self._text.split(b"\n")
        found = []
        for line in lines:
            with contextlib.suppress(ValueError):  # somebody else wrote into it
                found.append(json.loads(line))
        self._looked = self._looked or any("looked" in each for each in found)
        return [each for each in found if "looked" not in each]

    def look_at_once(self):
        """Something has failed: what is so now may be gone in a moment."""
        if self._process is not None and self._looked:
            self._looked = not send(self._process.pid, signal.SIGUSR1)

    def end(self):
        """What they had still to tell."""
        if self._process is None:
            return []
        found = self.news()
        if not self._looked:
            select.select([self._process.stdout], [], [], ANSWER_TIMEOUT)
            found += self.news()
        send(self._process.pid, signal.SIGKILL)
        return found
