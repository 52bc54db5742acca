"""A child process that carries a connection (`ssh`, a ProxyCommand), and everything it has started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable

from clusterctl.settings import SSH


class Child:
    """The leader of a process group of its own. Its end is the end of the whole group, and nobody waits for
    it but a thread: a ProxyCommand that ignores every polite signal holds nothing up."""

    def __init__(self, process: subprocess.Popen[bytes], on_end: Callable[[], None] | None = None) -> None:
        """``process`` was started with ``start_new_session``; nobody else waits for it or polls it.
        ``on_end`` is called from another thread once it is gone."""
        self.pid = process.pid
        self._process = process
        self._on_end = on_end
        self._ending = threading.Lock()
        self._gone = threading.Event()
        self._timer: threading.Timer | None = None
        threading.Thread(target=self._watch, name="child", daemon=True).start()

    @property
    def code(self) -> int | None:
        """Its exit status (-n for signal n); None while it lives."""
        return self._process.returncode if self._gone.is_set() else None

    def end(self) -> None:
        """Ask the group to end, and kill it after ``SSH.close_timeout`` seconds. Returns at once."""
        self._signal(signal.SIGTERM)
        self.kill_after(SSH.close_timeout)

    def kill_after(self, timeout: float) -> None:
        """Kill the group unless its leader ends by itself within ``timeout`` seconds. Returns at once."""
        with self._ending:
            if self._timer is None and not self._gone.is_set():
                self._timer = threading.Timer(timeout, self._signal, (signal.SIGKILL,))
                self._timer.daemon = True
                self._timer.start()

    def join(self, timeout: float) -> bool:
        """Whether it is gone within ``timeout`` seconds."""
        return self._gone.wait(timeout)

    def _signal(self, number: signal.Signals) -> None:
        with self._ending:
            # Not reaped yet, so the number still means this group. A group that belongs to another user
            # (sudo) cannot be told; it loses its connection all the same.
            if not self._gone.is_set():
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self.pid, number)

    def _watch(self) -> None:
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        self._signal(signal.SIGKILL)  # what the leader has left behind
        with self._ending:
            self._process.wait()
            self._gone.set()
            if self._timer is not None:
                self._timer.cancel()
        if self._on_end is not None:
            self._on_end()


def end_all(children: Iterable[Child]) -> None:
    """End all of them side by side; returns when they are gone, or have been killed and do not go."""
    children = list(children)
    for child in children:
        child.end()
    deadline = time.monotonic() + 2 * SSH.close_timeout
    for child in children:
        child.join(deadline - time.monotonic())
