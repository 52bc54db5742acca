"""The second transport: `ssh` child processes, for what paramiko cannot do (host CAs, FIDO keys, GSSAPI)."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import selectors
import subprocess
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, cast

import msgspec

from clusterctl.settings import SSH
from clusterctl.transport import failures
from clusterctl.transport.channel_cache import ChannelCache
from clusterctl.transport.endpoint import Endpoint, resolve
from clusterctl.transport.protocol import Channel, Failure
from clusterctl.transport.ssh_errors import explain
from clusterctl.transport.window import allow_descriptors, open_window

_READ = 1 << 18
_DESCRIPTORS_PER_HOST = 6
SSH_ITSELF_FAILED = 255
# ssh runs this on our side once the login has worked, and its output comes before the host's.
_CONNECTED = b"@@clusterctl-connected\n"


class OpensshTransport:
    """`Transport` over the `ssh` command: all of the user's configuration works, at ten times the CPU."""

    def __init__(self, config: Path | None) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._channels: weakref.WeakSet[OpensshChannel] = weakref.WeakSet()
        self._cache = ChannelCache()

    def open(self, host: str, command: str, deadline: float) -> Channel | Failure:
        kept = self._cache.take(host, command, deadline)
        if kept is not None:
            return kept
        began = time.monotonic()
        opened = self._open(host, command, deadline)
        if isinstance(opened, Failure):
            return msgspec.structs.replace(opened, seconds=time.monotonic() - began)
        with self._lock:
            self._channels.add(opened)
        return opened

    def open_all(
        self, hosts: Sequence[str], command: str, deadline: float
    ) -> Iterator[tuple[str, Channel | Failure]]:
        allow_descriptors(len(hosts) * _DESCRIPTORS_PER_HOST)
        return open_window(lambda host: self.open(host, command, deadline), hosts, SSH.window)

    def keep(self, channel: Channel, command: str) -> None:
        assert isinstance(channel, OpensshChannel)
        self._cache.put(channel, command)

    def close(self) -> None:
        with self._lock:
            channels = list(self._channels)
        for channel in channels:
            channel.close()

    def _open(self, host: str, command: str, deadline: float) -> OpensshChannel | Failure:
        began = time.monotonic()
        endpoint = resolve(host, self._config, deadline)
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
        channel = OpensshChannel(host, process, deadline)
        if channel.wait_for_login(deadline):
            channel.seconds = time.monotonic() - began
            return channel
        channel.close()
        if time.monotonic() >= deadline:
            return failures.late(endpoint, "the login")
        return explain(endpoint, channel.complaint, time.monotonic() - began)


def _options(endpoint: Endpoint, deadline: float) -> list[str]:
    limit = min(endpoint.connect_timeout or SSH.connect_timeout, deadline - time.monotonic())
    accept_new = endpoint.strict_host_keys == "accept-new"
    settings = {
        "BatchMode": "yes",
        "ConnectTimeout": str(max(1, round(limit))),
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
        self._process = process
        self._deadline = deadline
        self._stdin = cast(IO[bytes], process.stdin)
        self._streams = {
            cast(IO[bytes], process.stdout).fileno(): bytearray(),
            cast(IO[bytes], process.stderr).fileno(): bytearray(),
        }
        self._stdout, self._stderr = self._streams
        self._open = set(self._streams)
        self._selector = selectors.DefaultSelector()
        self._closed = False
        for descriptor in (self._stdin.fileno(), *self._streams):
            os.set_blocking(descriptor, False)
        for descriptor in self._streams:
            self._selector.register(descriptor, selectors.EVENT_READ)

    def wait_for_login(self, deadline: float) -> bool:
        """True once ssh has logged in; false when it gave up or ``deadline`` has passed."""
        while not self._streams[self._stdout].startswith(_CONNECTED):
            left = deadline - time.monotonic()
            if left <= 0 or not self._open:
                self.complaint = self._streams[self._stderr].decode(errors="replace")
                return False
            self._selector.select(left)
            self._pull()
        del self._streams[self._stdout][: len(_CONNECTED)]
        return True

    def renew(self, deadline: float) -> None:
        self._deadline = deadline

    def fileno(self) -> int:
        # An epoll descriptor is itself pollable: readable when stdout or stderr is.
        return self._selector.fileno()

    def send(self, data: bytes) -> None:
        limit = max(self._deadline, time.monotonic() + SSH.send_timeout)
        view = memoryview(data)
        writable = select.poll()
        writable.register(self._stdin.fileno(), select.POLLOUT)
        while view:
            left = limit - time.monotonic()
            if left <= 0 or not writable.poll(left * 1000):
                raise OSError(errno.ETIMEDOUT, f"{self.host} took no input in time")
            with contextlib.suppress(BlockingIOError):
                view = view[os.write(self._stdin.fileno(), view[: select.PIPE_BUF]) :]

    def close_input(self) -> None:
        with contextlib.suppress(OSError):
            self._stdin.close()

    def receive(self) -> tuple[bytes, bytes]:
        self._pull()
        out, err = bytes(self._streams[self._stdout]), bytes(self._streams[self._stderr])
        for kept in self._streams.values():
            kept.clear()
        return out, err

    @property
    def ended(self) -> bool:
        return not self._open and self._process.poll() is not None and not any(self._streams.values())

    @property
    def exit_code(self) -> int | None:
        code = self._process.poll()
        # 255 is ssh's own word for a broken link, too; and we may have ended ssh ourselves.
        return None if code is None or code < 0 or code == SSH_ITSELF_FAILED else code

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self.close_input()
        self._process.terminate()
        try:
            self._process.wait(timeout=2.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._selector.close()
        for stream in (self._process.stdout, self._process.stderr):
            cast(IO[bytes], stream).close()

    def _pull(self) -> None:
        """Move what waits in the pipes into the buffers."""
        for descriptor in tuple(self._open):
            while True:
                try:
                    data = os.read(descriptor, _READ)
                except BlockingIOError:
                    break
                if data:
                    self._streams[descriptor] += data
                    continue
                self._open.discard(descriptor)
                # The last one stays registered: an ended channel keeps polling readable.
                if self._open:
                    self._selector.unregister(descriptor)
                else:
                    self._reap()
                break

    def _reap(self) -> None:
        """Both streams are at their end, so ssh is about to exit."""
        try:
            self._process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
