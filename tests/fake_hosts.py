"""Hosts played by the test: a transport whose channels answer orders as a relay would, at once."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Callable
from typing import Any

import msgspec

from clusterctl.ask.host_session import MARK
from clusterctl.messages import events, orders, relay
from clusterctl.messages.codec import encode
from clusterctl.transport.protocol import Channel, Failure, Stuck
from tests.bare_transport import BareTransport

_orders = msgspec.json.Decoder(orders.Order)
Answer = Callable[["FakeChannel", orders.Order], None]


class FakeChannel:
    """One session with a host, which is played by a thread: it is given each order, one after another."""

    def __init__(self, host: FakeHost) -> None:
        self.host = host.name
        self.seconds = 0.0
        self.exit_code = None
        self.stuck: Stuck = ""
        self._player = host
        self._reader, self._writer = os.pipe()
        self._lock = threading.Lock()
        self._out = b""
        self._gone = False
        self._partial = b""
        self._closed = False
        self._sent: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.pending = 0
        threading.Thread(target=self._play, name=f"play {host.name}", daemon=True).start()

    def fileno(self) -> int:
        return self._reader

    def send(self, data: bytes) -> None:
        if self._gone:
            raise OSError("gone")
        with self._lock:
            self.pending += len(data)
        self._sent.put(data)

    def _play(self) -> None:
        while (data := self._sent.get()) is not None:
            self._player.take_input()
            with self._lock:
                self.pending -= len(data)
            if b"\n" not in data or not data.startswith(b"{"):
                continue  # the bundle
            order = _orders.decode(data)
            self._player.orders.append(order)
            self._player.answer(self, order)
        with self._lock:
            self._closed = self._gone = True
            os.close(self._reader)
            os.close(self._writer)

    def say(self, *replies: relay.Reply) -> None:
        self.say_bytes(b"".join(MARK + encode(each) for each in replies))

    def say_bytes(self, data: bytes) -> None:
        with self._lock:
            self._out += data
            self._poke()

    def hang_up(self) -> None:
        with self._lock:
            self._gone = True
            self._poke()

    def _poke(self) -> None:
        if not self._closed:
            os.write(self._writer, b"*")

    def receive(self) -> tuple[bytes, bytes]:
        with self._lock:
            if not self._gone:
                os.set_blocking(self._reader, False)
                with contextlib.suppress(BlockingIOError):
                    os.read(self._reader, 4096)
            out, self._out = self._out, b""
        return out, b""

    @property
    def ended(self) -> bool:
        return self._gone and not self._out

    def close_input(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Once what was sent has been heard."""
        self._sent.put(None)


class FakeHost:
    """By default: starts when told, its rank runs until it is stopped, and it forgets when asked to."""

    def __init__(self, name: str, rank: int) -> None:
        self.name = name
        self.rank = rank
        self.orders: list[orders.Order] = []
        self.log = b""
        self.offset = 0
        self.opened = 0
        self.channel: FakeChannel | None = None
        self.on_open: Callable[[FakeChannel], None] = lambda channel: None
        self.on: dict[type, Callable[[FakeChannel, Any], None]] = {
            orders.Attach: lambda channel, _: channel.say(relay.Heartbeat(time=1.0), relay.CaughtUp()),
            orders.StartAgent: lambda channel, _: self.start(channel),
            orders.Stop: lambda channel, _: self.end(channel, 143, told=True),
            orders.Forget: lambda channel, _: channel.say(relay.Forgotten()),
        }
        self.take_input: Callable[[], None] = lambda: None

    def open(self) -> FakeChannel:
        self.opened += 1
        self.channel = FakeChannel(self)
        self.on_open(self.channel)
        return self.channel

    def answer(self, channel: FakeChannel, order: orders.Order) -> None:
        if type(order) in self.on:
            self.on[type(order)](channel, order)

    def event(self, event: events.AgentEvent) -> relay.HostEvent:
        self.offset += 100
        return relay.HostEvent(offset=self.offset, event=event)

    def start(self, channel: FakeChannel) -> None:
        started = relay.Started(cwd="/w", run_dir="/r")
        begun = events.RankStarted(time=1.0, rank=self.rank, local_rank=0, pid=7)
        channel.say(started, self.event(begun), relay.Heartbeat(time=1.0))

    def end(self, channel: FakeChannel, code: int, *, told: bool = False, signal: int | None = None) -> None:
        exited = events.RankExited(
            time=2.0,
            rank=self.rank,
            code=code,
            signal=signal,
            started=1.0,
            ended=2.0,
            peak_memory=1,
            told=told,
        )
        channel.say(self.event(exited), self.event(events.Ended(time=2.0, left=0)), self.complete())

    def complete(self) -> relay.Complete:
        from hashlib import sha256

        mark = relay.Fingerprint(size=len(self.log), sha256=sha256(self.log).hexdigest())
        return relay.Complete(logs={f"rank-{self.rank}.log": mark})

    def print(self, channel: FakeChannel, text: bytes) -> None:
        offset, self.log = len(self.log), self.log + text
        channel.say(relay.LogPiece(name=f"rank-{self.rank}.log", offset=offset, data=text))


class FakeTransport(BareTransport):
    def __init__(self, *hosts: FakeHost) -> None:
        self.hosts = {host.name: host for host in hosts}

    def open(self, host: str, command: str, deadline: float) -> Channel | Failure:
        try:
            return self.hosts[host].open()
        except OSError as error:
            return Failure(host=host, stage="connect", message=str(error))

    def address_of(self, host: str) -> tuple[str, int] | None:
        return (host, 2222)

    def close(self) -> None:
        for host in self.hosts.values():
            if host.channel is not None:
                host.channel.close()
