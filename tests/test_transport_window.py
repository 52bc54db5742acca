"""Nothing is left open of what nobody waits for any more, and one broken guard disarms no other."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Generator
from typing import cast

from clusterctl.transport.protocol import Channel, Failure
from clusterctl.transport.watchdog import Watchdog
from clusterctl.transport.window import open_window


class Opened:
    """A channel of which only its end matters."""

    def __init__(self) -> None:
        self.closed = threading.Event()

    def close(self) -> None:
        self.closed.set()


def test_channels_that_come_too_late_are_closed() -> None:
    channels = {f"n{number}": Opened() for number in range(20)}
    go, begun = threading.Event(), queue.SimpleQueue[str]()

    def open_one(host: str) -> Channel | Failure:
        if host != "n0":
            begun.put(host)
            go.wait(60)
        return cast(Channel, channels[host])

    opening = cast(
        "Generator[tuple[str, Channel | Failure], None, None]", open_window(open_one, list(channels), 8)
    )
    assert next(opening)[0] == "n0"
    late = [channels[begun.get(timeout=60)] for _ in range(8)]
    opening.close()
    go.set()
    assert all(each.closed.wait(60) for each in late)
    assert not channels["n0"].closed.is_set(), "that one was taken"
    assert begun.empty(), "nobody is asked any more"


def test_a_guard_that_fails_leaves_the_others_armed() -> None:
    watchdog, cut = Watchdog(), threading.Event()

    def fail() -> None:
        raise OSError("already gone")

    now = time.monotonic()
    with watchdog.guard(now + 0.01, fail), watchdog.guard(now + 0.05, cut.set):
        assert cut.wait(30)


def test_a_guard_that_is_due_earlier_is_not_kept_waiting() -> None:
    watchdog, cut = Watchdog(), threading.Event()
    with watchdog.guard(time.monotonic() + 3600, cut.clear):
        time.sleep(0.05)  # the thread waits for the first by now, most likely
        with watchdog.guard(time.monotonic() + 0.05, cut.set):
            assert cut.wait(30)


def test_a_guard_that_is_left_in_time_cuts_nothing() -> None:
    watchdog, cut, later = Watchdog(), threading.Event(), threading.Event()
    with watchdog.guard(time.monotonic() + 0.2, cut.set):
        pass
    with watchdog.guard(time.monotonic() + 0.3, later.set):
        assert later.wait(30)
    assert not cut.is_set()
