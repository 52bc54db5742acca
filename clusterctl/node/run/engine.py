"""The engine (torchrun, DeepSpeed's launcher): the agent's child, which starts the rank waiters."""

from __future__ import annotations

import os
import re
import signal
import subprocess

from ..shared.processes import die_with_parent

WAITER = "code/rank.py"
WAITER_WORD = "clusterctl-rank-waiter"
# What DeepSpeed's launcher (0.9 to 0.19) and torchrun (1.9 to 2.13) say of a signal, and of nothing else.
_SIGNALLED = re.compile(
    rb"Main process received (SIGINT|SIGTERM), exiting|SignalException: Process \d+ got signal: (\d{1,2})"
)
_TAIL = 65536


class Engine:
    def __init__(self, directory, job, env):
        self._directory = directory
        self._job = job
        self._env = env
        self.process: subprocess.Popen[bytes] | None = None
        self.pid = 0
        self.code: int | None = None

    @property
    def running(self):
        return self.process is not None and self.code is None

    def start(self, brought):
        """``brought`` is DeepSpeed's launcher's argv, where the plan has none. Its pid. Raises OSError."""
        argv = self._job["engine"]
        if argv is None:
            waiter = self._directory.path(WAITER)
            argv = [self._job["python"], *(waiter if part == WAITER_WORD else part for part in brought)]
        log = self._directory.append_log(self._directory.agent_log)
        parent = os.getpid()
        try:
            self.process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._directory.root,  # not the script's: `-m` would import from it
                env=self._env,
                preexec_fn=lambda: die_with_parent(parent),
                start_new_session=True,
            )
        finally:
            os.close(log)
        self.pid = self.process.pid
        return self.pid

    def take_exit(self, pid, status):
        """Whether the child that was reaped is the engine; then ``code`` is set, 128+n for a signal."""
        if self.process is None or pid != self.pid:
            return False
        killed = os.WIFSIGNALED(status)
        self.code = 128 + os.WTERMSIG(status) if killed else os.WEXITSTATUS(status)
        self.process.returncode = self.code
        return True

    def signalled(self):
        """The number of the signal it says it was sent, None where it says nothing of one. Nobody here sends
        an engine any but KILL."""
        try:
            with open(self._directory.path(self._directory.agent_log), "rb") as stream:
                stream.seek(max(0, os.fstat(stream.fileno()).st_size - _TAIL))
                found = _SIGNALLED.search(stream.read())
        except OSError:  # the directory may have been removed: that has an event of its own
            return None
        if found is None:
            return None
        name, number = found.groups()
        return int(signal.Signals[name.decode()]) if name else int(number)
