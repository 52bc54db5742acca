"""`Channel` over a raw paramiko channel: none of its calls waits for the host."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from clusterctl.settings import SSH
from clusterctl.transport.link import Link
from clusterctl.transport.protocol import Stuck
from clusterctl.transport.sender import Sender
from clusterctl.transport.wakeup import WakeupPipe
from clusterctl.transport.watchdog import Watchdog

_WRITE_TIMEOUT = 0.1
SIGNALLED = -1


class FabricChannel:
    """``raw`` is a session channel of ``link``, on which the command is about to be started."""

    def __init__(
        self,
        host: str,
        link: Link,
        raw: Any,
        deadline: float,
        seconds: float,
        watchdog: Watchdog,
        allow: Callable[[Any, int], None],
    ) -> None:
        """``allow(raw, count)`` tells the host that it may send ``count`` bytes more."""
        self.host = host
        self.seconds = seconds
        self._link = link
        self._raw = raw
        self._watchdog = watchdog
        self._allow_raw = allow
        self._closed = False
        self._wakeup = WakeupPipe()
        self._sender = Sender(
            host,
            deadline,
            write=self._write,
            finish=self._end_input,
            cut=link.close,
            release=self._wakeup.close,
        )
        raw.settimeout(_WRITE_TIMEOUT)
        raw.in_buffer.set_event(self._wakeup)
        raw.in_stderr_buffer.set_event(self._wakeup)

    def renew(self, deadline: float) -> None:
        self._sender.deadline = deadline

    def fileno(self) -> int:
        return self._wakeup.fileno()

    def send(self, data: bytes) -> None:
        if self._raw.closed:
            raise OSError(errno.EPIPE, f"the link to {self.host} is gone")
        self._sender.put(data)

    @property
    def pending(self) -> int:
        return self._sender.pending

    def close_input(self) -> None:
        self._sender.end()

    def receive(self) -> tuple[bytes, bytes]:
        self._wakeup.drain()
        out, err = self._raw.in_buffer.empty(), self._raw.in_stderr_buffer.empty()
        # What `recv` of paramiko does, but for the word that this much may follow: that is a write, and a
        # write to a full socket waits.
        for data in (out, err):
            allowed = self._raw._check_add_window(len(data))
            if allowed:
                self._sender.ahead(partial(self._allow, allowed))
        if self._raw.closed:
            self._wakeup.set()
        return out, err

    @property
    def ended(self) -> bool:
        # sshd closes the channel after the streams' end and the exit status; waiting for that gets both.
        return bool(self._raw.closed) and not (self._raw.recv_ready() or self._raw.recv_stderr_ready())

    @property
    def stuck(self) -> Stuck:
        return self._link.stuck

    @property
    def exit_code(self) -> int | None:
        status: int = self._raw.exit_status
        if status != SIGNALLED:
            return status
        return SIGNALLED if self._raw.closed and not self._closed and self._link.alive else None

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._sender.close()

    def join(self, timeout: float) -> bool:
        """Whether all is over within ``timeout`` seconds after `close`."""
        return self._sender.join(timeout)

    def _write(self, data: memoryview) -> int:
        try:
            with self._in_time():
                sent: int = self._raw.send(data.tobytes())
        except TimeoutError:
            return 0  # the host's window is full
        if sent == 0:
            raise OSError(errno.EPIPE, f"{self.host} takes no more input")
        return sent

    def _end_input(self) -> None:
        with self._in_time():
            if not self._raw.closed:
                self._raw.shutdown_write()

    def _allow(self, count: int) -> None:
        with self._in_time():
            self._allow_raw(self._raw, count)

    def _in_time(self) -> AbstractContextManager[None]:
        """A write to a full socket waits inside paramiko for ever."""
        deadline = max(self._sender.deadline, time.monotonic() + SSH.send_timeout)
        return self._watchdog.guard(deadline, self._link.close)
