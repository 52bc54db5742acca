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
    ``finish`` ends the host's input. ``cut`` drops the link: from any thread, and more than once. ``release``
    comes last, when nothing of the others is under way any more.
    """

    def __init__(
        self,
        host: str,
        deadline: float,
        *,
        write: Callable[[memoryview], int],
        finish: Callable[[], None],
        cut: Callable[[], None],
        release: Callable[[], None],
    ) -> None:
        """A host that takes nothing for ``SSH.send_timeout`` seconds is cut, but not before ``deadline``."""
        self.deadline = deadline
        self._host = host
        self._write = write
        self._finish = finish
        self._cut = cut
        self._release = release
        self._changed = threading.Condition()
        self._queue: deque[memoryview] = deque()
        self._size = 0
        self._ahead: deque[Callable[[], None]] = deque()
        self._running = False
        self._ended = False
        self._finished = False
        self._closing = False
        self._released = False
        self._error: OSError | None = None
        self._took = 0.0
        """When the host last took something, or was first offered it."""

    def put(self, data: bytes) -> None:
        """See `Channel.send`."""
        with self._changed:
            while self._size >= SSH.send_buffer and self._error is None and not self._closing:
                self._changed.wait()  # not for ever: the thread sends on or gives up
            if self._error is not None:
                raise OSError(self._error.errno, self._error.strerror)
            if self._closing or self._ended:
                what = "channel to" if self._closing else "input of"
                raise OSError(errno.EPIPE, f"the {what} {self._host} is closed")
            if not self._queue:
                self._took = time.monotonic()
            self._queue.append(memoryview(data))
            self._size += len(data)
            self._wake()

    @property
    def pending(self) -> int:
        """Bytes that the link has not taken yet."""
        return self._size

    def ahead(self, action: Callable[[], None]) -> None:
        """Have the thread do this before it sends on."""
        with self._changed:
            if self._error is None and not self._closing:
                self._ahead.append(action)
                self._wake()

    def end(self) -> None:
        """The host's input ends after what is queued."""
        with self._changed:
            if not self._ended and not self._closing and self._error is None:
                self._ended = True
                self._wake()

    def close(self) -> None:
        """Send what is queued, as far as the host takes it soon, and cut the link. Returns at once."""
        with self._changed:
            if self._closing:
                return
            self._closing = True
            pending = bool(self._queue)
            self._changed.notify_all()
        if pending:
            cutting = threading.Timer(SSH.close_timeout, self._cut)
            cutting.daemon = True
            cutting.start()
        else:
            self._cut()
        self._leave()

    def join(self, timeout: float) -> bool:
        """Whether all is over within ``timeout`` seconds after `close`."""
        with self._changed:
            return self._changed.wait_for(lambda: self._released, timeout)

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
            with self._changed:
                self._fail(OSError(errno.EPIPE, told or f"the link to {self._host} broke: {error}"))
                self._running = False
        self._leave()

    def _leave(self) -> None:
        """Do what is left to do once the thread has ended, or was never needed."""
        with self._changed:
            if self._running:
                return
            cut = self._closing or self._error is not None
            release = self._closing and not self._released
            self._released = self._released or release
        if cut:
            self._cut()
        if release:
            self._release()
        with self._changed:
            self._changed.notify_all()

    def _next(self) -> Callable[[], None] | None:
        """What to do now, waited for. None: nothing any more, the thread is about to end."""
        with self._changed:
            while self._error is None:
                if self._ahead:
                    return self._ahead.popleft()
                if self._queue:
                    return partial(self._send, self._queue[0][:_PIECE])
                if self._finished or self._closing:
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
