"""When opening channels breaks in its own thread, whoever asks must hear of it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence

import msgspec
import pytest

from clusterctl.ask.collector import FactCollector
from clusterctl.ask.host_session import MARK
from clusterctl.ask.pool import HostEnded, HostPool, HostSaid
from clusterctl.messages.codec import encode
from clusterctl.messages.examination import FactsTold, Listening, Pong, TorchImported
from clusterctl.messages.exec import CommandEnded, exec_messages
from clusterctl.transport.protocol import Channel, Failure


class Breaking:
    """A transport whose first host is down, and which then breaks."""

    def open(self, host: str, command: str, deadline: float) -> Channel | Failure:
        raise NotImplementedError

    def open_all(
        self, hosts: Sequence[str], command: str, deadline: float
    ) -> Iterator[tuple[str, Channel | Failure]]:
        yield hosts[0], Failure(host=hosts[0], stage="connect", message="down")
        raise RuntimeError("no more descriptors")

    def address_of(self, host: str) -> tuple[str, int] | None:
        raise NotImplementedError

    def keep(self, channel: Channel, command: str) -> None:
        raise NotImplementedError

    def close(self) -> None:
        pass


def test_an_error_while_opening_is_raised_where_answers_are_heard() -> None:
    pool = HostPool(Breaking(), ("a", "b"), "true", lambda host: b"", exec_messages, time.monotonic() + 30)
    events = pool.events(time.monotonic() + 30)
    assert next(events).host == "a"
    with pytest.raises(RuntimeError, match="no more descriptors"):
        next(events)
    pool.close()


class Talking:
    """A channel on which a test says what the host says; all that is said before a read arrives in one."""

    pending = 0

    def __init__(self, host: str) -> None:
        self.host = host
        self.seconds = 0.0
        self.exit_code: int | None = None
        self.sent: list[bytes] = []
        self.ended = False
        self.closed = False
        self._reader, self._writer = os.pipe()

    def say(self, *messages: msgspec.Struct) -> None:
        os.write(self._writer, b"".join(MARK + encode(message) for message in messages))

    def hang_up(self) -> None:
        os.close(self._writer)

    def fileno(self) -> int:
        return self._reader

    def send(self, data: bytes) -> None:
        self.sent.append(data)

    def close_input(self) -> None:
        pass

    def receive(self) -> tuple[bytes, bytes]:
        data = b""
        os.set_blocking(self._reader, False)
        try:
            while piece := os.read(self._reader, 1 << 16):
                data += piece
            self.ended = True
        except BlockingIOError:
            pass
        return data, b""

    def close(self) -> None:
        self.closed = True


class Fake(Breaking):
    """A transport with these channels open."""

    def __init__(self, *channels: Talking) -> None:
        self.channels = channels

    def open_all(
        self, hosts: Sequence[str], command: str, deadline: float
    ) -> Iterator[tuple[str, Channel | Failure]]:
        yield from ((channel.host, channel) for channel in self.channels)


def soon() -> float:
    return time.monotonic() + 30


def test_two_messages_in_one_read_are_both_heard_though_the_first_ends_a_wait() -> None:
    channel = Talking("a")
    collector = FactCollector(
        Fake(channel),
        ("a",),
        lambda host: b"",
        command="true",
        deadline=soon(),
        torch_timeout=30.0,
        on_progress=lambda host, answer: None,
        on_awaiting=lambda kind, hosts: None,
    )
    packages = {"executable": "/p", "packages": {"torch": "2"}}
    channel.say(FactsTold(facts={"hostname": "a", "python": packages}))
    collector.gather(30.0, soon())
    channel.say(Pong(sent=0.0, time=0.0), Listening(), TorchImported(torch={"ok": True}))
    assert list(collector.wait(Listening, ("a",), soon())) == ["a"]
    # Nothing else will ever be said: what came with it must have been kept.
    assert list(collector.wait(TorchImported, ("a",), soon())) == ["a"]
    assert collector.facts()["a"].torch is not None
    collector.close()


def test_the_last_words_come_before_the_end_and_the_session_is_there_until_then() -> None:
    first, second = Talking("a"), Talking("b")
    pool = HostPool(Fake(first, second), ("a", "b"), "true", lambda host: b"", exec_messages, soon())
    assert {next(pool.events(soon())).host for _ in range(2)} == {"a", "b"}
    first.say(*[CommandEnded(code=code, timed_out=False, left=0) for code in (0, 1)])
    first.hang_up()
    heard = []
    while True:
        event = next(pool.events(soon()))  # asked anew for each, as by whoever waits for one thing
        heard.append(event)
        if isinstance(event, HostEnded):
            break
        assert "a" in pool.sessions
    assert [type(event) for event in heard] == [HostSaid, HostSaid, HostEnded]
    assert list(pool.sessions) == ["b"]
    assert first.closed and not second.closed
    pool.close()
    assert second.closed
