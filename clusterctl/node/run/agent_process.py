"""The agent as its relay sees it: a process that may be killed, stuck, or from before a reboot."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

from ..shared.processes import DYING_TIMEOUT, boot_id, identity, is_running, kill_all, send
from .directory import AGENT, INPUT, INPUT_END, JOB, boottime
from .dumps import publish

# An agent whose time to stop is over needs up to eight more: it kills, waits for reports, sweeps.
STUCK_TIMEOUT = 12.0
TICK = 0.01
REBOOTED = "the host was rebooted"


class AgentProcess:
    def __init__(self, directory, tag):
        self._directory = directory
        self._tag = tag
        self._identity: dict[str, Any] | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._stop_deadline = math.inf

    def start(self, env):
        """In a session of its own. The environment travels without ever having a name in a file system."""
        with tempfile.TemporaryFile("w+") as source:
            json.dump(env, source)
            source.seek(0)
            log = self._directory.append_log(self._directory.agent_log)
            try:
                self._child = subprocess.Popen(
                    [sys.executable, "-I", "-S", self._directory.path("code/agent.py"), self._directory.root],
                    stdin=source,
                    stdout=log,
                    stderr=log,
                    cwd="/",
                    start_new_session=True,
                )
            finally:
                os.close(log)
        self._identity = identity(self._child.pid)
        self._directory.overwrite(AGENT, self._identity)

    def attach(self):
        """Learn which process it is. "" or why it cannot be alive: the host has been rebooted since."""
        self._identity = self._directory.read(AGENT)
        if self._identity is not None and self._identity["boot"] != boot_id():
            return REBOOTED
        return ""

    def is_alive(self):
        if self._child is not None:
            self._child.poll()  # a zombie of ours is gone
        known = self._identity
        return known is not None and is_running(known["pid"], known["started"])

    def expect_stop(self, grace):
        """It was told to stop; from when on it counts as stuck. A later order may only be shorter."""
        self._stop_deadline = min(self._stop_deadline, boottime() + grace + STUCK_TIMEOUT)

    def is_stuck(self):
        return boottime() > self._stop_deadline

    def told(self, number):
        """Signal it. False when it is gone."""
        return self.is_alive() and self._identity is not None and send(self._identity["pid"], number)

    def await_end(self):
        """Killed, it needs a moment to be gone. Its pid in a list where it stays, else an empty one."""
        deadline = boottime() + DYING_TIMEOUT
        while self.is_alive() and boottime() < deadline:
            time.sleep(TICK)
        return [self._identity["pid"]] if self._identity is not None and self.is_alive() else []

    def replace(self, meanwhile=lambda: None):
        """Do in its place what it no longer does: end everything of the run, then itself. What is left.

        ``meanwhile`` is called now and then.
        """
        if self._identity is not None and self.told(signal.SIGSTOP):
            # It starts nothing meanwhile, and orphans still fall to it.
            kill_all(self._tag, self._identity["pid"], meanwhile)
            self.told(signal.SIGKILL)
        left = kill_all(self._tag, None, meanwhile) + self.await_end()
        publish(self._directory, (self._directory.read(JOB) or {}).get("ranks", ()))
        self._directory.remove(JOB, INPUT, INPUT_END)
        self._directory.remove_stacks()
        return left
