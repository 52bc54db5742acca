"""Many hosts asked at once: channels open side by side, one thread hears the answers as they come."""

from __future__ import annotations

import contextlib
import queue
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeAlias

import msgspec

from clusterctl.ask.host_session import HostSession
from clusterctl.messages.codec import Decoder, Message
from clusterctl.transport.protocol import Channel, Failure, Transport


class HostOpened(msgspec.Struct, frozen=True):
    """A session has begun."""

    host: str


class HostFailed(msgspec.Struct, frozen=True):
    """No session came about."""

    host: str
    failure: Failure


class HostSaid(msgspec.Struct, Generic[Message], frozen=True):
    """A message has come."""

    host: str
    message: Message


class HostEnded(msgspec.Struct, Generic[Message], frozen=True):
    """A session is over; it is closed after this event."""

    host: str
    session: HostSession[Message]


PoolEvent: TypeAlias = HostOpened | HostFailed | HostSaid[Message] | HostEnded[Message]


class HostPool(Generic[Message]):
    """Sessions with all hosts that could be reached. ``close`` ends them all."""

    def __init__(
        self,
        transport: Transport,
        hosts: Sequence[str],
        command: str,
        opening: Callable[[str], bytes],
        decoder: Decoder[Message],
        deadline: float,
    ) -> None:
        """Begins at once. ``opening(host)`` is sent first; ``deadline`` is time.monotonic seconds."""
        opened = transport.open_all(hosts, command, deadline)  # first: it may refuse so many
        self.sessions: dict[str, HostSession[Message]] = {}
        self._transport = transport
        self._command = command
        self._decoder = decoder
        self._selector = selectors.DefaultSelector()
        self._arrived: queue.SimpleQueue[HostSession[Message] | Failure | BaseException] = queue.SimpleQueue()
        self._wakeup, self._waker = socket.socketpair()
        self._wakeup.setblocking(False)
        self._selector.register(self._wakeup, selectors.EVENT_READ, None)
        self._pending = len(hosts)
        self._heard: deque[PoolEvent[Message] | BaseException] = deque()
        """Not taken yet: one read may bring several, and whoever asks may stop after any of them."""
        self._closed = False
        self._lock = threading.Lock()
        threading.Thread(target=self._open, args=(opened, opening), name="pool", daemon=True).start()

    def events(self, deadline: float) -> Iterator[PoolEvent[Message]]:
        """Events until ``deadline``, or until every session has ended. Ask again to go on: none is lost."""
        while True:
            while self._heard:
                yield from self._deliver(self._heard.popleft())
            left = deadline - time.monotonic()
            if left <= 0 or not (self._pending or self.sessions):
                return
            for key, _ in self._selector.select(left):
                if key.data is None:
                    self._take_newcomers()
                else:
                    self._hear(key.data)

    def _deliver(self, event: PoolEvent[Message] | BaseException) -> Iterator[PoolEvent[Message]]:
        if isinstance(event, BaseException):
            raise event
        if not isinstance(event, HostEnded):
            yield event
            return
        self.sessions.pop(event.host, None)
        try:
            yield event
        finally:
            event.session.close()

    @property
    def over(self) -> bool:
        """Whether nothing more will come of it."""
        return not (self._pending or self.sessions or self._heard)

    def send(self, host: str, message: msgspec.Struct) -> bool:
        """Whether the host took the message; False when its link is gone (its end follows as an event)."""
        session = self.sessions.get(host)
        if session is None:
            return False
        try:
            session.send(message)
        except OSError:
            return False
        return True

    def release(self, host: str) -> None:
        """Leave the session with ``host``, whose side waits for a new bundle, to whoever opens one there."""
        if self.sessions[host].ended:  # its end is an event that has yet to be taken
            return
        session = self.sessions.pop(host)
        self._selector.unregister(session.channel.fileno())
        self._transport.keep(session.channel, self._command)

    def close(self) -> None:
        """Hang up on everybody: the end of their input ends what they run."""
        with self._lock:
            self._closed = True
            while not self._arrived.empty():
                late = self._arrived.get()
                if isinstance(late, HostSession):
                    late.close()
            self._waker.close()
        for session in self.sessions.values():
            session.close()
        self.sessions.clear()
        self._selector.close()
        self._wakeup.close()

    def _open(
        self, channels: Iterator[tuple[str, Channel | Failure]], opening: Callable[[str], bytes]
    ) -> None:
        try:
            self._open_each(channels, opening)
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that hears the answers
            self._hand_over(error)

    def _open_each(
        self, channels: Iterator[tuple[str, Channel | Failure]], opening: Callable[[str], bytes]
    ) -> None:
        for host, opened in channels:
            arrived: HostSession[Message] | Failure
            if isinstance(opened, Failure):
                arrived = opened
            else:
                arrived = HostSession(opened, self._decoder)
                # A host that takes no input has something to say instead: it comes with its end.
                try:
                    with contextlib.suppress(OSError):
                        opened.send(opening(host))
                except BaseException:
                    opened.close()
                    raise
            if not self._hand_over(arrived):
                return

    def _hand_over(self, arrived: HostSession[Message] | Failure | BaseException) -> bool:
        """False when nobody listens any more."""
        with self._lock:
            if not self._closed:
                self._arrived.put(arrived)
                self._waker.send(b"1")
            elif isinstance(arrived, HostSession):
                arrived.close()
            return not self._closed

    def _take_newcomers(self) -> None:
        self._wakeup.recv(4096)
        while not self._arrived.empty():
            arrived = self._arrived.get()
            if isinstance(arrived, BaseException):
                self._heard.append(arrived)
                continue
            self._pending -= 1
            if isinstance(arrived, Failure):
                self._heard.append(HostFailed(arrived.host, arrived))
            else:
                self.sessions[arrived.host] = arrived
                self._selector.register(arrived.channel.fileno(), selectors.EVENT_READ, arrived)
                self._heard.append(HostOpened(arrived.host))

    def _hear(self, session: HostSession[Message]) -> None:
        self._heard.extend(HostSaid(session.host, message) for message in session.receive())
        if session.ended:
            self._selector.unregister(session.channel.fileno())
            self._heard.append(HostEnded(session.host, session))
