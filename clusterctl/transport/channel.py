"""`Channel` over a raw paramiko channel: no thread of its own, no call that knows no timeout."""

from __future__ import annotations

import errno
import time
from typing import Any

from clusterctl.settings import SSH
from clusterctl.transport.link import Link
from clusterctl.transport.wakeup import WakeupPipe
from clusterctl.transport.watchdog import Watchdog

_READ = 1 << 20
_WRITE = 1 << 15
SIGNALLED = -1


class FabricChannel:
    """``raw`` is a session channel of ``link``, on which the command is about to be started."""

    def __init__(
        self, host: str, link: Link, raw: Any, deadline: float, seconds: float, watchdog: Watchdog
    ) -> None:
        self.host = host
        self.seconds = seconds
        self._link = link
        self._raw = raw
        self._deadline = deadline
        self._watchdog = watchdog
        self._closed = False
        self._wakeup = WakeupPipe()
        raw.settimeout(0.0)
        raw.in_buffer.set_event(self._wakeup)
        raw.in_stderr_buffer.set_event(self._wakeup)

    def renew(self, deadline: float) -> None:
        self._deadline = deadline

    def fileno(self) -> int:
        return self._wakeup.fileno()

    def send(self, data: bytes) -> None:
        limit = max(self._deadline, time.monotonic() + SSH.send_timeout)
        view = memoryview(data)
        # The watchdog: a write to a full socket waits inside paramiko for ever.
        with self._watchdog.guard(limit, self._link.close):
            try:
                self._raw.settimeout(max(0.1, limit - time.monotonic()))
                while view:
                    sent = self._raw.send(view[:_WRITE].tobytes())
                    if sent == 0:
                        raise OSError(errno.EPIPE, f"{self.host} takes no more input")
                    view = view[sent:]
            except TimeoutError as error:
                raise OSError(errno.ETIMEDOUT, f"{self.host} took no input in time") from error
            except OSError:
                raise
            except Exception as error:  # paramiko's own types are not known in this file
                raise OSError(errno.EPIPE, f"the link to {self.host} broke: {error}") from error

    def close_input(self) -> None:
        if self._link.alive:
            self._raw.shutdown_write()

    def receive(self) -> tuple[bytes, bytes]:
        self._wakeup.drain()
        out, err = bytearray(), bytearray()
        while self._raw.recv_ready():
            out += self._raw.recv(_READ)
        while self._raw.recv_stderr_ready():
            err += self._raw.recv_stderr(_READ)
        if self._raw.closed:
            self._wakeup.set()
        return bytes(out), bytes(err)

    @property
    def ended(self) -> bool:
        # sshd closes the channel after the streams' end and the exit status; waiting for that gets both.
        return bool(self._raw.closed) and not (self._raw.recv_ready() or self._raw.recv_stderr_ready())

    @property
    def exit_code(self) -> int | None:
        status: int = self._raw.exit_status
        if status != SIGNALLED:
            return status
        return SIGNALLED if self._raw.closed and not self._closed and self._link.alive else None

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._link.close()
            self._wakeup.close()
