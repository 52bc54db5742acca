"""The sessions of a run, one for each host: opened, listened to, written to, closed. Nothing here waits.

One thread hears all hosts (`Links.poll`). What the run wants said goes into the queue of a channel, which has
a thread of its own that sends; one more thread has a keepalive sent to all, twenty times in a lease. So a
host that takes no input delays nobody else's lease, and neither does a loop that is busy.
"""

from __future__ import annotations

import contextlib
import queue
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterable

import msgspec

from clusterctl.ask.bundle import REMOTE_COMMAND
from clusterctl.ask.host_session import HostSession
from clusterctl.messages.orders import Attach, Input, Keepalive, Order
from clusterctl.messages.relay import Reply
from clusterctl.settings import RUN
from clusterctl.transport.protocol import Channel, Failure, Transport

_INPUT_AHEAD = 256 << 10
"""Bytes of standard input on their way to a host; orders queue behind them."""
_INPUT_PAUSE = 0.02
_TOGETHER = 0.01
"""Hosts beat together: who is heard first is taken with those that follow at once."""


class Opened(msgspec.Struct, frozen=True):
    """A session with ``node`` stands; nothing has come through it yet."""

    node: int


class Unopened(msgspec.Struct, frozen=True):
    node: int
    failure: Failure


class Heard(msgspec.Struct, frozen=True):
    """Bytes have come from ``node``; ``replies`` are those that are whole, in order."""

    node: int
    replies: tuple[Reply, ...]


class Broken(msgspec.Struct, frozen=True):
    """The session with ``node`` has ended."""

    node: int
    reason: str


LinkEvent = Opened | Unopened | Heard | Broken


class Link:
    """One session, and why nothing can be sent into it any more."""

    def __init__(self, session: HostSession[Reply]) -> None:
        self.session = session
        self.trouble = ""
        self.answered = False
        """What came through it were words of a relay, not only what a login shell prints."""

    @property
    def pending(self) -> int:
        """Bytes that the host has not taken yet."""
        return self.session.channel.pending

    def post(self, order: Order) -> None:
        """Have it sent, after what was posted before. Does not wait: channels have threads that send."""
        try:
            self.session.send(order)
        except Exception as error:  # noqa: BLE001 - whatever a transport raises: the link is of no use any more
            self.trouble = str(error) or type(error).__name__


class Links:
    """Sessions by node rank. ``new_session`` makes the session of a new channel and says what it is for."""

    def __init__(
        self,
        hosts: Iterable[str],
        transport: Transport,
        new_session: Callable[[int, Channel], HostSession[Reply]],
    ) -> None:
        self._hosts = tuple(hosts)
        self._transport = transport
        self._new_session = new_session
        self._links: dict[int, Link] = {}
        self._listening: set[int] = set()
        self._arrived: queue.SimpleQueue[tuple[int, HostSession[Reply] | Failure]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._selector = selectors.DefaultSelector()
        # Sockets, not a pipe: one that is closed is known to be, whoever has its number by then.
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._selector.register(self._reader, selectors.EVENT_READ, None)
        threading.Thread(target=self._keep_alive, name="keepalive", daemon=True).start()

    @property
    def nodes(self) -> set[int]:
        """Those that have a session."""
        return set(self._links)

    def session(self, node: int) -> HostSession[Reply]:
        """Raises KeyError where there is none."""
        return self._links[node].session

    def wake(self) -> None:
        """End a `poll` early. From any thread, and from a signal handler."""
        with contextlib.suppress(OSError):  # full of such wishes already, or closed
            self._writer.send(b"*")

    def open(self, nodes: Iterable[int], deadline: float, *, attach: bool) -> None:
        """Begin to open sessions (``deadline``: time.monotonic); each ends as `Opened` or `Unopened`.

        ``attach``: go on with the run that is there. What a session says is heard after `listen`, which is
        implied by ``attach``.
        """
        wanted = {self._hosts[node]: node for node in nodes}
        for node in wanted.values():
            self.drop(node)

        def work() -> None:
            waiting = dict(wanted)
            try:
                for host, channel in self._transport.open_all(list(wanted), REMOTE_COMMAND, deadline):
                    node = waiting.pop(host)
                    self._hand_over(node, self._begin(node, channel, attach=attach))
            except Exception as error:  # noqa: BLE001 - no threads or memory left, for one: to be tried again
                for host, node in waiting.items():
                    why = f"{type(error).__name__}: {error}"
                    self._hand_over(node, Failure(host=host, stage="exec", message=why))

        if attach:
            self._listening.update(wanted.values())
        threading.Thread(target=work, name="open", daemon=True).start()

    def listen(self, nodes: Iterable[int]) -> None:
        """From here on `poll` hears these nodes; nobody else may receive from their sessions."""
        for node in nodes:
            self._listening.add(node)
            if node in self._links:
                self._register(node)

    def post(self, node: int, order: Order) -> None:
        """Send soon. Nothing happens where there is no session: whoever opens one knows what to say."""
        if node in self._links:
            self._links[node].post(order)

    def post_all(self, order: Order) -> None:
        """`post` to every node that has a session."""
        for link in self._links.values():
            link.post(order)

    def feed(self, node: int, data: bytes, timeout: float) -> bool:
        """Bytes for the standard input of a rank there. Waits up to ``timeout`` seconds while there is no
        session, or its host has much to take already: False when they were not sent. For another thread."""
        deadline = time.monotonic() + timeout
        while (link := self._links.get(node)) is None or link.pending > _INPUT_AHEAD:
            if time.monotonic() > deadline:
                return False
            time.sleep(_INPUT_PAUSE)
        link.post(Input(data=data))
        return True

    def poll(self, timeout: float) -> list[LinkEvent]:
        """What has happened, or happens within ``timeout`` seconds."""
        found: list[LinkEvent] = []
        if self._selector.select(timeout):
            time.sleep(_TOGETHER)
        for key, _ in self._selector.select(0):
            if key.data is None:
                with contextlib.suppress(BlockingIOError):
                    self._reader.recv(4096)
            else:
                found += self._receive(key.data)
        for node, link in list(self._links.items()):
            if link.trouble:
                found.append(self._broken(node, link.trouble))
        return found + self._newcomers()

    def drop(self, node: int) -> None:
        """Hang up on a node, if there is a session with it."""
        link = self._links.pop(node, None)
        if link is not None:
            with contextlib.suppress(KeyError):
                self._selector.unregister(link.session.channel.fileno())
            # Behind a gateway that takes nothing any more, paramiko waits.
            threading.Thread(target=link.session.close, name=f"close {node}", daemon=True).start()

    def close(self) -> None:
        """Hang up on everybody, once what was posted has been sent. Use nothing of this after it."""
        with self._lock:
            self._closed.set()
        self._newcomers()
        for node in list(self._links):
            self.drop(node)
        self._selector.close()
        self._writer.close()
        self._reader.close()

    def _keep_alive(self) -> None:
        """Orders renew a lease as well: to a host that has not taken them yet, nothing is added."""
        while not self._closed.wait(RUN.keepalive):
            for link in list(self._links.values()):
                if not link.pending and not link.trouble:
                    link.post(Keepalive())
                if link.trouble:
                    self.wake()

    def _begin(self, node: int, channel: Channel | Failure, *, attach: bool) -> HostSession[Reply] | Failure:
        if isinstance(channel, Failure):
            return channel
        try:
            session = self._new_session(node, channel)
            if attach:
                session.send(Attach())
        except Exception as error:  # noqa: BLE001 - as whatever `Link.post` meets
            channel.close()
            return Failure(host=self._hosts[node], stage="exec", message=str(error) or type(error).__name__)
        return session

    def _hand_over(self, node: int, arrived: HostSession[Reply] | Failure) -> None:
        with self._lock:
            if not self._closed.is_set():
                self._arrived.put((node, arrived))
                self.wake()
                return
        if isinstance(arrived, HostSession):
            arrived.close()

    def _newcomers(self) -> list[LinkEvent]:
        found: list[LinkEvent] = []
        while not self._arrived.empty():
            node, arrived = self._arrived.get()
            if isinstance(arrived, Failure):
                found.append(Unopened(node, arrived))
                continue
            self.drop(node)
            self._links[node] = Link(arrived)
            if node in self._listening:
                self._register(node)
            found.append(Opened(node))
        return found

    def _register(self, node: int) -> None:
        channel = self._links[node].session.channel
        if channel.fileno() not in self._selector.get_map():
            self._selector.register(channel.fileno(), selectors.EVENT_READ, node)

    def _receive(self, node: int) -> list[LinkEvent]:
        link = self._links[node]
        before = link.session.received
        replies = tuple(link.session.receive())
        link.answered = link.answered or bool(replies)
        found: list[LinkEvent] = []
        # What a login shell prints tells nothing of the relay behind it; once that has spoken, any byte does.
        if link.answered and link.session.received > before:
            found.append(Heard(node, replies))
        if link.session.ended:
            found.append(self._broken(node, link.session.last_words or "closed"))
        return found

    def _broken(self, node: int, reason: str) -> Broken:
        self.drop(node)
        return Broken(node, reason)
