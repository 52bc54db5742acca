"""A logged-in connection and the byte stream under it."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Any

import msgspec


class Stream(msgspec.Struct, frozen=True):
    """What an SSH session runs over, and the ProxyCommand process behind it."""

    socket: Any
    process: Any = None

    def close(self) -> None:
        # A paramiko thread may sit in recv: shutdown wakes it, close alone would not.
        with contextlib.suppress(OSError, EOFError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        if self.process is not None:
            self.process.terminate()
            self.process.wait()


class Link:
    """A logged-in connection and the stream under it. `close` may come from any thread, repeatedly."""

    def __init__(self, connection: Any, stream: Stream) -> None:
        self._connection = connection
        self._stream = stream
        self._lock = threading.Lock()
        self._closed = False

    @property
    def transport(self) -> Any:
        """The paramiko transport."""
        return self._connection.transport

    @property
    def alive(self) -> bool:
        return not self._closed and bool(self.transport.is_active())

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._stream.close()
        self._connection.close()
