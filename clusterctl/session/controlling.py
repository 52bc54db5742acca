"""What a controller in a process of its own does: carries its order out, and tells who began it."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

import msgspec

from clusterctl.errors import ClusterctlError
from clusterctl.run.attempts import Attempts
from clusterctl.run.display import Display
from clusterctl.session import tracking
from clusterctl.session.attempting import followed
from clusterctl.session.controller import Awaiting, Held, News, Over, Start, TakeOver, Up
from clusterctl.session.ending import conclude
from clusterctl.session.hosts import transport_of
from clusterctl.session.intent import Recalled, recall
from clusterctl.session.run import Run
from clusterctl.settings import RUN
from clusterctl.store.outcome import Outcome
from clusterctl.store.runs import RunDirectory

_TELL_TIMEOUT = 5.0
_RETRY = 5.0


class NewsPipe(Display):
    """Tells who began this process, in a thread of its own: a reader that stands still, or is gone, holds up
    nothing."""

    def __init__(self, descriptor: int) -> None:
        self.is_up = False
        self._descriptor = descriptor
        self._changed = threading.Condition()
        self._awaiting: Awaiting | None = None
        self._waiting: deque[News] = deque()
        self._closed = False
        self._thread = threading.Thread(target=self._write, name="news", daemon=True)
        self._thread.start()

    def awaiting(self, text: str) -> None:
        with self._changed:
            self._awaiting = Awaiting(text)
            self._changed.notify()

    ending = awaiting

    def up(self) -> None:
        self.is_up = True
        self.tell(Up())

    def tell(self, news: News) -> None:
        """Say it soon, after what was to be said before."""
        with self._changed:
            self._waiting.append(news)
            self._changed.notify()

    def close(self) -> None:
        """Say the rest, to a reader that takes it in time."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(_TELL_TIMEOUT)

    def _next(self) -> News | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._awaiting or self._closed)
            if self._waiting:
                return self._waiting.popleft()
            news, self._awaiting = self._awaiting, None
            return news

    def _write(self) -> None:
        with suppress(OSError):  # nobody reads any more
            while (news := self._next()) is not None:
                line = msgspec.json.encode(news) + b"\n"
                while line:
                    line = line[os.write(self._descriptor, line) :]
        with suppress(OSError):
            os.close(self._descriptor)


def carry_out(
    directory: RunDirectory,
    order: Start | TakeOver,
    news: NewsPipe,
    hold: Callable[[Run | Attempts], None],
    complain: Callable[[str], None],
) -> None:
    """Supervise the run to its end. ``hold`` gets what signals are for, ``complain`` what went wrong after
    that end. Raises LeftAlone."""
    recalled = _recalled(directory) if isinstance(order, TakeOver) else None
    if isinstance(order, TakeOver):
        lacks = recalled.lacks if recalled is not None else ()
        held = directory.take_claim("attach", instead_of=order.instead_of, lacks=lacks)
        if held is not None:
            news.tell(Held(held))
            return
    outcome = directory.outcome()  # the controller before may have come so far
    if outcome is not None:
        news.tell(Over(outcome))
        return
    if isinstance(order, Start):
        run = Run(order.ready, transport_of(order.ready.plan), directory)
        run.start(news)
        hold(run)
        _tell_end(directory, run.wait(), run.unwritten, news)
        run.settle()
        for text in run.on_end_said:
            complain(text)
    else:
        if recalled is not None and recalled.way_out:
            _say(directory, f"no restart follows from here on: {recalled.without}; {recalled.way_out}")
        with followed(directory, news, recalled) as attempts:
            hold(attempts)
            tracking.begin(directory, attempts.plan, news)
            outcome = attempts.take_over("attach")
        _tell_end(directory, outcome, attempts.unwritten, news)
        conclude(attempts.plan, directory, outcome, complain, unwritten=attempts.unwritten)


def _recalled(directory: RunDirectory) -> Recalled | None:
    try:
        return recall(directory)
    except ClusterctlError as error:
        _say(directory, f"no restart follows from here on: {error.message}")
        return None


def _say(directory: RunDirectory, text: str) -> None:
    """To everybody who looks on."""
    with suppress(OSError):
        directory.append_event({"event": "say", "time": time.time(), "text": text})


def _tell_end(directory: RunDirectory, outcome: Outcome, unwritten: str, news: NewsPipe) -> None:
    """No screen shows the outcome of a run whose terminal is gone: the disk is tried until it takes it."""
    news.tell(Over(outcome, unwritten))
    deadline = time.monotonic() + RUN.lease_detached
    while unwritten and time.monotonic() < deadline and directory.path.is_dir():
        with suppress(OSError):
            directory.write("outcome.json", outcome)
            return
        time.sleep(_RETRY)
