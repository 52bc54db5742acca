"""A logged-in connection and the byte stream under it."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Any

import msgspec

from clusterctl.transport.child import Child
from clusterctl.transport.protocol import Stuck
from clusterctl.transport.stuck import stuck


class Tunnel:
    """A channel through a gateway as a socket whose end harms nobody else behind that gateway.

    paramiko's channel sends its EOF and its CLOSE without a common lock: a `shutdown` here and a `close` in
    paramiko's thread may swap them, for which OpenSSH drops the whole gateway. So both are one `close` here,
    and that never raises: a gateway that is gone has closed the channel, too.
    """

    def __init__(self, channel: Any) -> None:
        self._channel = channel

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)

    def shutdown(self, _how: int) -> None:
        self.close()

    def close(self) -> None:
        with contextlib.suppress(Exception):  # paramiko's own types are not known in this file
            self._channel.close()


class Stream(msgspec.Struct, frozen=True):
    """What an SSH session runs over, and the ProxyCommand behind it."""

    socket: Any
    proxy: Child | None = None

    def close(self) -> None:
        # A paramiko thread may sit in recv: shutdown wakes it, close alone would not.
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        if self.proxy is not None:
            self.proxy.end()


class Link:
    """A logged-in client of paramiko, and the stream under it. `close`: from any thread, and again."""

    def __init__(self, client: Any, stream: Stream) -> None:
        self.transport: Any = None
        """The paramiko transport, once there is one; it stays known when it has been closed."""
        self._client = client
        self._stream = stream
        self._lock = threading.Lock()
        self._closed = False
        self._stuck: Stuck = ""

    @property
    def stuck(self) -> Stuck:
        """What does not get through, or did not when the link was closed."""
        return self._stuck if self._closed else stuck(self._stream.socket)

    @property
    def alive(self) -> bool:
        return not self._closed and bool(self.transport.is_active())

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._stuck = stuck(self._stream.socket)
            self._closed = True
        self._stream.close()
        self._client.close()
