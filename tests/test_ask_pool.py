"""When opening channels breaks in its own thread, whoever asks must hear of it."""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import msgspec
import pytest

from clusterctl.ask.collector import FactCollector
from clusterctl.ask.host_session import MARK
from clusterctl.ask.pool import HostEnded, HostPool, HostSaid
from clusterctl.messages.codec import encode
from clusterctl.messages.examination import AwaitBundle, FactsTold, Listening, Pong, TorchImported
from clusterctl.messages.exec import CommandEnded, exec_messages
from clusterctl.settings import ASK
from clusterctl.transport.protocol import Channel, Failure, Stuck
from tests.bare_transport import BareTransport


class Breaking(BareTransport):
    """A transport whose first host is down, and which then breaks."""

    def open_all(
        self, hosts: Sequence[str], command: str, deadline: float
    ) -> Iterator[tuple[str, Channel | Failure]]:
        yield hosts[0], Failure(host=hosts[0], stage="connect", message="down")
        raise RuntimeError("no more descriptors")


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
        self.stuck: Stuck = ""
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
    collector = collecting(Fake(channel), "a", torch=True)
    channel.say(facts_of("a"))
    collector.gather(30.0, soon())
    channel.say(Pong(sent=0.0, time=0.0), Listening(), TorchImported(torch={"ok": True}))
    assert list(collector.wait(Listening, ("a",), soon())) == ["a"]
    # Nothing else will ever be said: what came with it must have been kept.
    assert list(collector.wait(TorchImported, ("a",), soon())) == ["a"]
    assert collector.facts()["a"].torch is not None
    collector.close()


def collecting(transport: Breaking, *hosts: str, torch: bool = False) -> FactCollector:
    return FactCollector(
        transport,
        hosts,
        lambda host: b"",
        command="true",
        deadline=soon(),
        torch_timeout=30.0 if torch else None,
        on_progress=lambda host, answer: None,
        on_awaiting=lambda kind, hosts: None,
    )


def facts_of(host: str) -> FactsTold:
    return FactsTold(facts={"hostname": host, "python": {"executable": "/p", "packages": {"torch": "2"}}})


def test_a_hosts_time_begins_with_its_session() -> None:
    """``a`` has used up its time when ``b`` is only let in; ``b`` has all of its own."""
    failed = threading.Event()
    silent, late = Talking("a"), Talking("b")

    class Slow(Fake):
        def open_all(
            self, hosts: Sequence[str], command: str, deadline: float
        ) -> Iterator[tuple[str, Channel | Failure]]:
            yield "a", silent
            failed.wait(30)
            late.say(facts_of("b"))
            yield "b", late

    collector = FactCollector(
        Slow(),
        ("a", "b"),
        lambda host: b"",
        command="true",
        deadline=soon(),
        torch_timeout=None,
        on_progress=lambda host, answer: failed.set(),
        on_awaiting=lambda kind, hosts: None,
    )
    collector.gather(0.3, soon())
    assert list(collector.failures) == ["a"]
    assert list(collector.present) == ["b"]
    collector.close()


class Lively(Talking):
    """Answers every ping, until it has had enough of them."""

    def __init__(self, host: str, pings: int, then: Callable[[Lively], None]) -> None:
        super().__init__(host)
        self.pings = pings
        self.then = then

    def send(self, data: bytes) -> None:
        if b'"ping"' not in data:
            return
        self.pings -= 1
        if self.pings >= 0:
            self.say(Pong(sent=0.0, time=0.0))
        if self.pings == 0:
            self.then(self)


def test_an_import_is_waited_for_while_its_host_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    impatient = dataclasses.replace(ASK, alive_interval=0.05, alive_timeout=0.5)
    monkeypatch.setattr("clusterctl.ask.collector.ASK", impatient)
    done = Lively("a", 5, lambda host: host.say(TorchImported(torch={"ok": True, "seconds": 1e6})))
    gone = Lively("b", 3, lambda host: None)
    for host in (done, gone):
        host.say(facts_of(host.host))
    collector = collecting(Fake(done, gone), "a", "b", torch=True)
    collector.gather(30.0, soon())
    collector.settle()
    found = {host: facts.torch for host, facts in collector.facts().items()}
    assert found["a"] is not None and found["a"].ok
    assert found["b"] is not None and not found["b"].told
    collector.close()


def test_a_slow_host_is_waited_for_and_one_that_is_gone_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    impatient = dataclasses.replace(ASK, alive_interval=0.05, alive_timeout=0.5)
    monkeypatch.setattr("clusterctl.ask.collector.ASK", impatient)
    slow = Lively("a", 5, lambda host: host.say(Listening(master_port=2)))
    gone = Lively("b", 3, lambda host: None)
    for host in (slow, gone):
        host.say(facts_of(host.host))
    collector = collecting(Fake(slow, gone), "a", "b")
    collector.gather(30.0, soon())
    slow.say(Listening(master_port=1))
    assert collector.wait(Listening, ("a",), soon())["a"].master_port == 1
    heard = collector.ask(Listening, {host: AwaitBundle() for host in ("a", "b")}, timeout=3600.0)
    assert {host: answer.master_port for host, answer in heard.items()} == {"a": 2}
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
