"""What is sent to a host: in order, never waited for unless there is much of it, and never without an end."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from clusterctl.settings import SSH
from clusterctl.transport import sender as sending
from clusterctl.transport.sender import Sender


class Pipe:
    """A host that takes ``room`` bytes, then none until it is given more room."""

    def __init__(self, room: int) -> None:
        self.took = bytearray()
        self.calls: list[str] = []
        self.changed = threading.Condition()
        self.room = room
        self.broken: Exception | None = None

    def write(self, data: memoryview) -> int:
        with self.changed:
            if self.broken is not None:
                raise self.broken
            if not self.room:
                self.changed.wait(0.01)
            count = min(self.room, len(data))
            self.took += data[:count]
            self.room -= count
            self.changed.notify_all()
            return count

    def widen(self, room: int) -> None:
        with self.changed:
            self.room += room

    def called(self, what: str) -> Callable[[], None]:
        def note() -> None:
            with self.changed:
                self.calls.append(what)
                if what == "cut":
                    self.broken = OSError("cut")
                self.changed.notify_all()

        return note

    def until(self, true: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(true, 60), "it did not come about"


@pytest.fixture
def start() -> Iterator[Callable[..., tuple[Sender, Pipe]]]:
    senders: list[Sender] = []

    def make(room: int, deadline: float = 0.0) -> tuple[Sender, Pipe]:
        pipe = Pipe(room)
        made = Sender(
            "h",
            deadline,
            write=pipe.write,
            finish=pipe.called("end"),
            cut=pipe.called("cut"),
            release=pipe.called("release"),
        )
        senders.append(made)
        return made, pipe

    yield make
    for each in senders:
        each.close()
        assert each.join(60)


Start = Callable[..., tuple[Sender, Pipe]]


def test_bytes_go_in_order_and_then_the_end(start: Start) -> None:
    sender, pipe = start(1 << 30)
    for number in range(50):
        sender.put(b"%d," % number * 2000)
    sender.end()
    pipe.until(lambda: pipe.calls == ["end"])
    assert bytes(pipe.took) == b"".join(b"%d," % number * 2000 for number in range(50))
    with pytest.raises(OSError, match="input of h is closed"):
        sender.put(b"more")


def test_a_host_that_takes_nothing_delays_nobody_who_sends_little(start: Start) -> None:
    sender, pipe = start(0, deadline=time.monotonic() + 3600)
    for _ in range(1000):
        sender.put(b"alive\n")
    assert pipe.took == b""
    pipe.widen(6000)
    pipe.until(lambda: len(pipe.took) == 6000)


def test_who_sends_much_goes_at_the_pace_of_the_host(start: Start) -> None:
    sender, pipe = start(0, deadline=time.monotonic() + 3600)
    sender.put(bytes(SSH.send_buffer))
    second = threading.Thread(target=sender.put, args=(b"x",))
    second.start()
    second.join(0.1)
    assert second.is_alive()
    pipe.widen(SSH.send_buffer + 1)
    second.join(60)
    pipe.until(lambda: len(pipe.took) == SSH.send_buffer + 1)


def test_a_host_that_takes_nothing_for_too_long_is_cut(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "SSH", replace(SSH, send_timeout=0.05, send_buffer=10))
    sender, pipe = start(0)
    with pytest.raises(OSError, match="h took no input in time"):
        for _ in range(3):
            sender.put(b"0123456789")
    pipe.until(lambda: "cut" in pipe.calls)


def test_a_link_that_breaks_is_an_oserror_for_everybody(start: Start) -> None:
    sender, pipe = start(100)
    pipe.broken = ValueError("of some library")
    sender.put(b"x")
    pipe.until(lambda: pipe.calls == ["cut"])
    for _ in range(2):
        with pytest.raises(OSError, match="of some library") as found:
            sender.put(b"y")
        assert found.value.errno == errno.EPIPE


def test_what_was_sent_goes_before_a_channel_is_closed(start: Start) -> None:
    sender, pipe = start(0, deadline=time.monotonic() + 3600)
    sender.put(b"stop\n")
    sender.close()
    with pytest.raises(OSError, match="the channel to h is closed"):
        sender.put(b"x")
    pipe.widen(100)
    assert sender.join(60)
    assert (bytes(pipe.took), pipe.calls) == (b"stop\n", ["cut", "release"])


def test_a_closed_channel_drops_what_the_host_does_not_take(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "SSH", replace(SSH, close_timeout=0.05))
    sender, pipe = start(0, deadline=time.monotonic() + 3600)
    sender.put(b"never sent")
    sender.close()
    assert sender.join(60)
    assert pipe.took == b""
    assert pipe.calls[-1] == "release"


def test_a_channel_that_never_sent_is_closed_at_once(start: Start) -> None:
    sender, pipe = start(0)
    sender.close()
    sender.close()
    assert pipe.calls[-1] == "release"
    assert pipe.calls.count("release") == 1


def test_what_goes_ahead_does_not_wait_for_what_is_stuck(start: Start) -> None:
    sender, pipe = start(0, deadline=time.monotonic() + 3600)
    sender.put(bytes(1000))
    sender.ahead(pipe.called("ahead"))
    pipe.until(lambda: pipe.calls == ["ahead"])
    assert pipe.took == b""


def test_what_goes_ahead_is_done_after_the_end_too(start: Start) -> None:
    sender, pipe = start(1000)
    sender.end()
    pipe.until(lambda: pipe.calls == ["end"])
    sender.ahead(pipe.called("ahead"))
    pipe.until(lambda: pipe.calls == ["end", "ahead"])
