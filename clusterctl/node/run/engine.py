"""The engine (torchrun, DeepSpeed's launcher): the agent's child, which starts the rank waiters."""

from __future__ import annotations

import os
import subprocess

from ..shared.processes import die_with_parent

WAITER = "code/rank.py"
WAITER_WORD = "clusterctl-rank-waiter"


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
