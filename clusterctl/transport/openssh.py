"""The second transport: `ssh` child processes, for what paramiko cannot do (host CAs, FIDO keys, GSSAPI)."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import selectors
import subprocess
import time
from typing import IO, cast

from clusterctl.settings import SSH
from clusterctl.transport import failures
from clusterctl.transport.base import BaseTransport
from clusterctl.transport.child import Child
from clusterctl.transport.endpoint import Endpoint
from clusterctl.transport.protocol import Failure, Stuck
from clusterctl.transport.sender import Sender
from clusterctl.transport.ssh_errors import explain
from clusterctl.transport.wakeup import WakeupPipe

_READ = 1 << 18
_READS = 16
_WRITE_TIMEOUT = 0.1
SSH_ITSELF_FAILED = 255
# ssh runs this on our side once the login has worked, and its output comes before the host's.
_CONNECTED = b"@@clusterctl-connected\n"


class OpensshTransport(BaseTransport):
    """`Transport` over the `ssh` command: all of the user's configuration works, at ten times the CPU."""

    descriptors_per_host = 6

    def _close_gateways(self) -> None:
        """Each `ssh` has its own."""

    def _open(self, host: str, command: str, deadline: float) -> OpensshChannel | Failure:
        began = time.monotonic()
        endpoint = self._endpoints.get(host, deadline)
        if isinstance(endpoint, Failure):
            return endpoint
        try:
            process = subprocess.Popen(
                [*_options(endpoint, deadline), "--", endpoint.name, command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                # A Ctrl-C at the terminal is ours to handle; ssh must live to carry the stop.
                start_new_session=True,
            )
        except OSError as error:
            return failures.failure(endpoint, "connect", f"ssh cannot be started: {error}")
        try:
            channel = OpensshChannel(host, process, deadline)
        except (OSError, RuntimeError):  # no descriptor or thread left for it
            process.kill()
            process.communicate()
            raise
        with self._lock:
            self._children.add(channel.child)
        if channel.wait_for_login(deadline):
            channel.seconds = time.monotonic() - began
            return channel
        channel.close()
        if time.monotonic() >= deadline:
            return failures.late(endpoint, "the login")
        return explain(endpoint, channel.complaint, time.monotonic() - began)


def _options(endpoint: Endpoint, deadline: float) -> list[str]:
    timeout = min(endpoint.connect_timeout or SSH.connect_timeout, (deadline - time.monotonic()) / 2)
    accept_new = endpoint.strict_host_keys == "accept-new"
    settings = {
        "BatchMode": "yes",
        "ConnectTimeout": str(max(1, round(timeout))),
        "ServerAliveInterval": str(int(SSH.keepalive)),
        "ServerAliveCountMax": "3",
        "StrictHostKeyChecking": "accept-new" if accept_new else "yes",
        "LogLevel": "ERROR",
        "ControlPath": "none",
        "RemoteCommand": "none",
        "PermitLocalCommand": "yes",
        "LocalCommand": "echo " + _CONNECTED.decode().strip(),
    }
    command = ["ssh", *(["-F", str(endpoint.config)] if endpoint.config else []), "-a", "-x", "-T"]
    for name, value in settings.items():
        command += ["-o", f"{name}={value}"]
    return command


class OpensshChannel:
    """`Channel` over one `ssh` process."""

    def __init__(self, host: str, process: subprocess.Popen[bytes], deadline: float) -> None:
        self.host = host
        self.seconds = 0.0
        self.complaint = ""
        self._stdin, self._stdout, self._stderr = (
            cast(IO[bytes], stream) for stream in (process.stdin, process.stdout, process.stderr)
        )
        self._received = {self._stdout: bytearray(), self._stderr: bytearray()}
        self._wakeup = WakeupPipe()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wakeup, selectors.EVENT_READ)
        for stream in (self._stdin, *self._received):
            os.set_blocking(stream.fileno(), False)
        for stream in self._received:
            self._selector.register(stream, selectors.EVENT_READ)
        self._open = set(self._received)
        self._closed = False
        self.child = Child(process, self._wakeup.set)
        self._sender = Sender(
            host,
            deadline,
            write=self._write,
            finish=self._stdin.close,
            cut=self.child.end,
            release=self._release,
        )

    def wait_for_login(self, deadline: float) -> bool:
        """True once ssh has logged in; false when it gave up or ``deadline`` has passed."""
        while not self._received[self._stdout].startswith(_CONNECTED):
            left = deadline - time.monotonic()
            if left <= 0 or not self._open:
                self.complaint = self._received[self._stderr].decode(errors="replace")
                return False
            self._selector.select(left)
            self._pull()
        del self._received[self._stdout][: len(_CONNECTED)]
        return True

    def renew(self, deadline: float) -> None:
        self._sender.deadline = deadline

    def fileno(self) -> int:
        # An epoll descriptor is itself pollable: readable when stdout or stderr is, or ssh has ended.
        return self._selector.fileno()

    def send(self, data: bytes) -> None:
        if self.child.code is not None:
            raise OSError(errno.EPIPE, f"the link to {self.host} is gone")
        self._sender.put(data)

    @property
    def pending(self) -> int:
        return self._sender.pending

    def close_input(self) -> None:
        self._sender.end()

    def receive(self) -> tuple[bytes, bytes]:
        self._pull()
        out, err = bytes(self._received[self._stdout]), bytes(self._received[self._stderr])
        for kept in self._received.values():
            kept.clear()
        return out, err

    @property
    def ended(self) -> bool:
        left = self._open or any(self._received.values())
        return self._closed or (self.child.code is not None and not left)

    @property
    def stuck(self) -> Stuck:
        return ""  # the connection is ssh's

    @property
    def exit_code(self) -> int | None:
        code = self.child.code
        # 255 is ssh's own word for a broken link, too; and we may have ended ssh ourselves.
        return None if code is None or code < 0 or code == SSH_ITSELF_FAILED else code

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._open.clear()
        self._sender.close()

    def join(self, timeout: float) -> bool:
        """Whether all is over within ``timeout`` seconds after `close`."""
        return self._sender.join(timeout)

    def _write(self, data: memoryview) -> int:
        writable = select.poll()
        writable.register(self._stdin, select.POLLOUT)
        if not writable.poll(_WRITE_TIMEOUT * 1000):
            return 0
        with contextlib.suppress(BlockingIOError):
            return os.write(self._stdin.fileno(), data[: select.PIPE_BUF])
        return 0

    def _release(self) -> None:
        self._selector.close()
        self._wakeup.close()
        for stream in (self._stdin, *self._received):
            stream.close()

    def _pull(self) -> None:
        """Move what waits in the pipes into the buffers."""
        gone = self.child.code is not None
        for stream in tuple(self._open):
            for _ in range(_READS):  # who never stops talking must not keep the others from being heard
                data = _read(stream)
                if not data:
                    break
                self._received[stream] += data
            if data == b"":
                self._open.discard(stream)
                self._selector.unregister(stream)
                if not self._open:
                    # ssh is about to exit, and its end wakes us once more.
                    self.child.kill_after(SSH.send_timeout)
        if gone:
            # Whatever it has left in the background may hold the pipes for ever.
            self._open.clear()


def _read(stream: IO[bytes]) -> bytes | None:
    """None when nothing waits, empty at the end."""
    try:
        return os.read(stream.fileno(), _READ)
    except BlockingIOError:
        return None
