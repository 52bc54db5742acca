"""Many hosts asked at once: channels open side by side, one thread hears the answers as they come."""

from __future__ import annotations

import contextlib
import queue
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import msgspec

from clusterctl.ask.conversation import Conversation
from clusterctl.transport.protocol import Channel, Failure, Transport


class Event(msgspec.Struct, frozen=True):
    """``message`` is None when the talk has ended; ``failure`` is set when it never began."""

    host: str
    kind: Literal["opened", "failed", "message", "ended"]
    message: dict[str, Any] = {}
    failure: Failure | None = None


class Crowd:
    """Conversations with all hosts that could be reached. ``close`` ends them all."""

    def __init__(
        self,
        transport: Transport,
        hosts: Sequence[str],
        command: str,
        opening: Callable[[str], bytes],
        deadline: float,
    ) -> None:
        """Begins at once. ``opening(host)`` is sent first; ``deadline`` is time.monotonic seconds."""
        self.conversations: dict[str, Conversation] = {}
        self._transport = transport
        self._command = command
        self._selector = selectors.DefaultSelector()
        self._arrived: queue.SimpleQueue[Conversation | Failure | BaseException] = queue.SimpleQueue()
        self._bell, self._ringer = socket.socketpair()
        self._bell.setblocking(False)
        self._selector.register(self._bell, selectors.EVENT_READ, None)
        self._pending = len(hosts)
        self._closed = False
        self._lock = threading.Lock()
        opened = transport.open_all(hosts, command, deadline)
        threading.Thread(target=self._open, args=(opened, opening), name="crowd", daemon=True).start()

    def events(self, deadline: float) -> Iterator[Event]:
        """Events until ``deadline``, or until every talk has ended. Ask again to go on."""
        while self._pending or self.conversations:
            left = deadline - time.monotonic()
            if left <= 0:
                return
            for key, _ in self._selector.select(left):
                if key.data is None:
                    yield from self._newcomers()
                else:
                    yield from self._heard(key.data)

    def send(self, host: str, message: dict[str, Any]) -> bool:
        """Whether the host took the message; False when its link is gone (its end follows as an event)."""
        conversation = self.conversations.get(host)
        if conversation is None:
            return False
        try:
            conversation.send(message)
        except OSError:
            return False
        return True

    def part(self, host: str) -> None:
        """Leave the talk with ``host``, whose side waits for a new beginning, to whoever opens one there."""
        conversation = self.conversations.pop(host)
        self._selector.unregister(conversation.channel.fileno())
        self._transport.keep(conversation.channel, self._command)

    def close(self) -> None:
        """Hang up on everybody: the end of their input ends what they run."""
        with self._lock:
            self._closed = True
            while not self._arrived.empty():
                late = self._arrived.get()
                if isinstance(late, Conversation):
                    late.close()
            self._ringer.close()
        for conversation in self.conversations.values():
            conversation.close()
        self.conversations.clear()
        self._selector.close()
        self._bell.close()

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
            arrived: Conversation | Failure
            if isinstance(opened, Failure):
                arrived = opened
            else:
                arrived = Conversation(opened)
                # A host that takes no input has something to say instead: it comes with its end.
                with contextlib.suppress(OSError):
                    opened.send(opening(host))
            if not self._hand_over(arrived):
                return

    def _hand_over(self, arrived: Conversation | Failure | BaseException) -> bool:
        """False when nobody listens any more."""
        with self._lock:
            if not self._closed:
                self._arrived.put(arrived)
                self._ringer.send(b"1")
            elif isinstance(arrived, Conversation):
                arrived.close()
            return not self._closed

    def _newcomers(self) -> Iterator[Event]:
        self._bell.recv(4096)
        while not self._arrived.empty():
            arrived = self._arrived.get()
            if isinstance(arrived, BaseException):
                raise arrived
            self._pending -= 1
            if isinstance(arrived, Failure):
                yield Event(arrived.host, "failed", failure=arrived)
            else:
                self.conversations[arrived.host] = arrived
                self._selector.register(arrived.channel.fileno(), selectors.EVENT_READ, arrived)
                yield Event(arrived.host, "opened")

    def _heard(self, conversation: Conversation) -> Iterator[Event]:
        for message in conversation.receive():
            yield Event(conversation.host, "message", message)
        if conversation.ended and conversation.host in self.conversations:
            self._selector.unregister(conversation.channel.fileno())
            yield Event(conversation.host, "ended")
            del self.conversations[conversation.host]
            conversation.close()
