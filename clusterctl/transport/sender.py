"""Bytes on their way to one host. Who sends does not wait for the host: a thread of the channel does."""

from __future__ import annotations

import errno
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial

from clusterctl.settings import SSH

_PIECE = 1 << 15


class Sender:
    """A queue of bytes and the thread that hands them on, which lives from the first byte to the end.

    ``write(data)`` sends some of ``data`` and says how much: 0 after a moment in which the host took nothing.
    ``finish`` ends the host's input. ``cut`` drops the link, and may be called again. The first two are never
    under way at once, nor after ``cut``.
    """

    def __init__(
        self,
        host: str,
        deadline: float,
        *,
        write: Callable[[memoryview], int],
        finish: Callable[[], None],
        cut: Callable[[], None],
    ) -> None:
        """A host that takes nothing for ``SSH.send_timeout`` seconds is cut, but not before ``deadline``."""
        self.deadline = deadline
        self._host = host
        self._write = write
        self._finish = finish
        self._cut = cut
        self._changed = threading.Condition()
        self._queue: deque[memoryview] = deque()
        self._size = 0
        self._ahead: deque[Callable[[], None]] = deque()
        self._running = False
        self._ended = False
        self._finished = False
        self._error: OSError | None = None
        self._took = 0.0
        """When the host last took something, or was first offered it."""

    def put(self, data: bytes) -> None:
        """See `Channel.send`."""
        with self._changed:
            while self._size >= SSH.send_buffer and self._error is None:
                self._changed.wait()  # not for ever: the thread sends on or gives up
            if self._error is not None:
                raise OSError(self._error.errno, self._error.strerror)
            if self._ended:
                raise OSError(errno.EPIPE, f"the input of {self._host} is closed")
            if not self._queue:
                self._took = time.monotonic()
            self._queue.append(memoryview(data))
            self._size += len(data)
            self._wake()

    def ahead(self, action: Callable[[], None]) -> None:
        """Have the thread do this before it sends on."""
        with self._changed:
            if self._error is None:
                self._ahead.append(action)
                self._wake()

    def end(self) -> None:
        """The host's input ends after what is queued."""
        with self._changed:
            if not self._ended and self._error is None:
                self._ended = True
                self._wake()

    def abort(self) -> None:
        """Forget what is queued and cut the link. Returns at once."""
        with self._changed:
            running = self._running
            self._fail(OSError(errno.EPIPE, f"the channel to {self._host} is closed"))
        if not running:
            self._cut()

    def _wake(self) -> None:
        if not self._running:
            self._running = True
            threading.Thread(target=self._work, name=f"send {self._host}", daemon=True).start()
        self._changed.notify_all()

    def _fail(self, error: OSError) -> None:
        self._error = self._error or error
        self._queue.clear()
        self._ahead.clear()
        self._size = 0
        self._changed.notify_all()

    def _work(self) -> None:
        try:
            while (do := self._next()) is not None:
                do()
        except Exception as error:  # noqa: BLE001 - paramiko's own types are not known in this file
            told = isinstance(error, OSError) and error.strerror
            why = told or f"the link to {self._host} broke: {error}"
            with self._changed:
                self._fail(OSError(errno.EPIPE, why))
                self._running = False
        if self._error is not None:
            self._cut()

    def _next(self) -> Callable[[], None] | None:
        """What to do now, waited for. None: nothing any more, the thread is about to end."""
        with self._changed:
            while self._error is None:
                if self._ahead:
                    return self._ahead.popleft()
                if self._queue:
                    return partial(self._send, self._queue[0][:_PIECE])
                if self._finished:
                    break
                if self._ended:
                    self._finished = True
                    return self._finish
                self._changed.wait()
            self._running = False
            return None

    def _send(self, piece: memoryview) -> None:
        count, now = self._write(piece), time.monotonic()
        if not count and now >= max(self.deadline, self._took + SSH.send_timeout):
            raise OSError(errno.ETIMEDOUT, f"{self._host} took no input in time")
        with self._changed:
            if not count or self._error is not None:
                return
            self._took = now
            self._size -= count
            rest = self._queue.popleft()[count:]
            if rest:
                self._queue.appendleft(rest)
            self._changed.notify_all()
