"""All that a followed run has to do with this machine's disk, in one thread that may be held up by it.

A dead file server holds up who asks it, for minutes or for ever. The loop that keeps the run alive never
asks: it puts jobs into a queue, in order, and takes reports from another. Bytes of logs are acknowledged to
their host when they are reported as stored, so what waits here is never more than the relays' windows.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

import msgspec

from clusterctl.messages.relay import Fingerprint, LogCut, LogPiece
from clusterctl.plan.model import LaunchPlan
from clusterctl.run.claim_watch import ClaimWatch
from clusterctl.run.history import History
from clusterctl.run.launcher import DeepSpeedLauncher
from clusterctl.run.log_collector import LogCollector
from clusterctl.run.metrics.collection import RunMetrics
from clusterctl.run.past import AttemptEnd
from clusterctl.store.claims import Claim, Verb
from clusterctl.store.outcome import Outcome
from clusterctl.store.runs import RunDirectory

_LOOK = 0.5
_SILENT = 10.0
_STOOD_STILL = 5.0
_MOST_WAITING = 32 << 20
"""Bytes of one host's logs. Relays keep to windows; what a host sends beyond this is dropped."""
_T = TypeVar("_T")


class Stored(msgspec.Struct, frozen=True):
    """``size`` bytes of logs that came through a session of ``node`` are written, or dropped to be fetched
    again."""

    node: int
    session: int
    size: int


class Behind(msgspec.Struct, frozen=True):
    """The disk takes something again; of these hosts, what it had not taken must be fetched."""

    hosts: frozenset[str]


class Notice(msgspec.Struct, frozen=True):
    """One line for the operator, about the disk."""

    text: str


Report = Stored | Behind | Notice


class Kept(msgspec.Struct, frozen=True):
    """How a run's records ended: hosts whose logs are not complete here, what was cut out of which log, and
    why ``outcome.json`` could not be written, empty when it was."""

    incomplete: tuple[str, ...]
    unwritten: str = ""
    disk_answers: bool = True
    cut_logs: dict[str, int] = {}


class Recorder:
    """One run directory and its thread. What the methods order is done soon, one thing after another; none of
    them waits. Attributes are what the thread saw last."""

    def __init__(self, directory: RunDirectory, plan: LaunchPlan, wake: Callable[[], None]) -> None:
        """``wake`` is called from the thread when there is something to hear."""
        self.stop_asked: bool | None = None
        """What `clusterctl stop` has asked for: True means now."""
        self.taken_by: Claim | None = None
        """The other process that supervises the run in place of this one."""
        self.launcher: DeepSpeedLauncher | None = None
        self.fault: Exception | None = None
        """The first fault of this program in the thread; whoever asks for something from then on gets it."""
        self.path = directory.path
        self._directory = directory
        self._attempt = plan.attempt
        self._wake = wake
        self._reports: queue.SimpleQueue[Report] = queue.SimpleQueue()
        self._logs = LogCollector(
            directory, lambda text: self._report(Notice(text)), limit=plan.log_limit, on_block=self._step
        )
        self._metrics = RunMetrics(directory, plan, lambda text: self._report(Notice(text)))
        self._claim = ClaimWatch(directory)
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._given: dict[str, int] = {}
        """Bytes of each host's logs that were to be stored,"""
        self._taken: dict[str, int] = {}
        """and those that wait no more; only the thread writes it."""
        self._look_at = 0.0
        self._closed = False
        self._steps = 0
        """Grows as long as the disk answers."""
        self._busy = False
        self._seen = 0
        self._seen_at = self._asked_at = 0.0
        self._hangs = False
        threading.Thread(target=self._work, name=f"disk {directory.run}", daemon=True).start()

    # For the loop, and offsets for any thread

    def offsets(self, host: str) -> dict[str, int]:
        """Where a new session with this host goes on, by log. From memory."""
        return self._logs.offsets(host)

    def resume(self, hosts: Sequence[str]) -> Future[History]:
        """Go on with what another process has collected here."""
        return self._ask(partial(self._resume, hosts))

    def claim(self, verb: Verb) -> Future[None]:
        """Say that this process supervises the run from here on. Raises OSError."""
        return self._ask(lambda: self._claim.take(verb))

    def keep_claim(self, verb: Verb) -> Future[None]:
        """Go on with a claim that this process has taken before."""

        def keep() -> None:
            self._claim.keep(verb)
            self.taken_by = self._claim.taken_by()

        return self._ask(keep)

    def launch(self, make: Callable[[], DeepSpeedLauncher]) -> Future[None]:
        """Start DeepSpeed's launcher, whose log lies in the run directory, and read that. Raises OSError."""
        return self._ask(partial(self._launch, make))

    def record(self, event: Mapping[str, Any]) -> None:
        """One line of ``events.jsonl``."""
        self._jobs.put(lambda: self._logs.record(event, time.monotonic()))

    def keep(self, name: str, value: msgspec.Struct) -> None:
        """A file of the run directory. A disk that does not take it costs that file only."""

        def keep() -> None:
            with contextlib.suppress(OSError):
                self._directory.keep(name, value)

        self._jobs.put(keep)

    def store(self, host: str, piece: LogPiece, node: int, session: int) -> None:
        """Bytes of a log; `Stored` reports them, unless far too many wait already."""
        size = len(piece.data)

        def store() -> None:
            self._logs.take(host, piece, time.monotonic())
            self._metrics.grew(host, piece.name)
            self._taken[host] = self._taken.get(host, 0) + size
            self._report(Stored(node, session, size))

        given = self._given.get(host, 0) + size
        if given - self._taken.get(host, 0) <= _MOST_WAITING:
            self._given[host] = given
            self._jobs.put(store)

    def cut(self, host: str, piece: LogCut) -> None:
        """A log has lost its middle there, and does so here."""
        self._jobs.put(lambda: self._logs.cut(host, piece, time.monotonic()))

    def complete(self, host: str, told: dict[str, Fingerprint]) -> None:
        """What the host says its logs are."""
        self._jobs.put(lambda: self._logs.complete(host, told))

    def finish(self, end: Outcome | AttemptEnd, hosts: Sequence[str]) -> Future[Kept]:
        """After all that was ordered before: compare the logs of ``hosts``, and write down how
        the run or the attempt ended, with the names of those that are not complete. Nothing is written where
        another process supervises the run."""
        return self._ask(partial(self._finish, end, hosts))

    def reports(self) -> list[Report]:
        """What is new."""
        found = self._news_of_the_disk()
        while not self._reports.empty():
            found.append(self._reports.get())
        return found

    def silence(self) -> float:
        """Seconds for which the disk has not answered, as far as somebody asked all the while: when this
        process stood still, so did the thread."""
        now = time.monotonic()
        if self._steps != self._seen or not self._busy or now - self._asked_at > _STOOD_STILL:
            self._seen, self._seen_at = self._steps, now
        self._asked_at = now
        return now - self._seen_at

    def close(self) -> None:
        """Begin nothing new, and end the thread once the disk lets it."""
        self._closed = True
        self._jobs.put(None)

    def _news_of_the_disk(self) -> list[Report]:
        silent = self.silence()
        if silent > _SILENT and not self._hangs:
            self._hangs = True
            why = f"the disk of {self.path} has not answered for {silent:.0f} s"
            return [Notice(f"{why}; the run goes on, the hosts keep its logs until it does")]
        if self._hangs and silent == 0.0:
            self._hangs = False
            return [Notice("this machine's disk answers again")]
        return []

    def _ask(self, do: Callable[[], _T]) -> Future[_T]:
        answer: Future[_T] = Future()

        def job() -> None:
            try:
                if self.fault is not None:
                    raise self.fault
                answer.set_result(do())
            except Exception as error:  # noqa: BLE001 - whoever asked is to hear it, of whatever kind
                answer.set_exception(error)
            self._wake()

        self._jobs.put(job)
        return answer

    # The thread

    def _work(self) -> None:
        while not self._closed:
            job = self._next()
            if job is None:
                return
            self._busy = True
            self._step()
            try:
                job()
            except Exception as error:  # noqa: BLE001 - the loop raises it
                self.fault = self.fault or error
                self._wake()
            self._busy = False

    def _next(self) -> Callable[[], None] | None:
        due = self._look_at - time.monotonic()
        try:
            return self._jobs.get(timeout=due) if due > 0 else self._look
        except queue.Empty:
            return self._look

    def _step(self) -> None:
        self._steps += 1

    def _report(self, report: Report) -> None:
        self._reports.put(report)
        if self._reports.qsize() == 1:
            self._wake()

    def _look(self) -> None:
        try:
            self._look_around()
        finally:
            self._look_at = time.monotonic() + _LOOK

    def _look_around(self) -> None:
        self._claim.show_life()
        before = (self.taken_by, self.stop_asked)
        self.taken_by = self._claim.taken_by() or self.taken_by
        self.stop_asked = self._directory.stop_asked()
        if self.launcher is not None:
            self.launcher.look()
        behind = self._logs.retry(time.monotonic())
        if behind:
            self._report(Behind(behind))
        if before != (self.taken_by, self.stop_asked):
            self._wake()
        self._metrics.look()

    def _resume(self, hosts: Sequence[str]) -> History:
        self._logs.resume(hosts)
        return History.of(self._directory)

    def _launch(self, make: Callable[[], DeepSpeedLauncher]) -> None:
        self.launcher = make()

    def _finish(self, end: Outcome | AttemptEnd, hosts: Sequence[str]) -> Kept:
        missing = self._logs.incomplete(hosts, self._step)
        self._metrics.look(over=True, on_block=self._step)
        cut_logs = self._logs.cut_out()
        self.taken_by = self._claim.taken_by() or self.taken_by
        why = ""
        if self.taken_by is None and isinstance(end, AttemptEnd):
            self._logs.record(end.event(missing), time.monotonic())
        elif self.taken_by is None and isinstance(end, Outcome):
            end = end.with_logs(self._attempt, missing, cut_logs)
            cut_logs = end.cut_logs
            try:
                self._directory.write("outcome.json", end)
            except OSError as error:
                why = f"{self.path / 'outcome.json'}: {error.strerror or error}"
        return Kept(missing, why, cut_logs=cut_logs)
