"""What hosts do now: kept up to date for as long as somebody looks."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import closing

import msgspec

from clusterctl.ask.top import TopWatch
from clusterctl.messages.top import HostSeen
from clusterctl.report.top import HostLine, Overview, Row, RunLine
from clusterctl.report.top_details import Details
from clusterctl.session.top_record import TICK, News, sample_of
from clusterctl.store.sample import Sample
from clusterctl.transport import Transport

_IDLE = 0.01
_HELD = 256 << 20
"""Bytes: a driver's own needs are less."""
_HEARD = 300
"""Samples of a host that are kept."""
_LOOK = 1.0
_LEAVE = 5.0


Closer = Callable[[Row, HostLine, Sequence[Sample], float], Details]


class Looking:
    """Takes what hosts say, and tells how they stand."""

    def __init__(self, hosts: Sequence[str], begun: float = 0.0) -> None:
        self.newest = begun
        """When anything was heard, wall clock."""
        self._hosts: dict[str, HostLine] = {host: HostLine(host=host, at=begun) for host in hosts}
        self._idle: dict[tuple[str, int], float] = {}
        self._heard: dict[str, deque[Sample]] = {}

    def hear(self, news: News) -> None:
        self.newest = news.at
        if news.seen is None:
            known = self._hosts.get(news.host, HostLine(host=news.host, at=news.at))
            self._hosts[news.host] = msgspec.structs.replace(known, problem=news.problem)
            return
        idle = self._idle_since(news.host, news.seen, news.at)
        self._hosts[news.host] = HostLine(host=news.host, seen=news.seen, at=news.at, idle=idle)
        self._heard.setdefault(news.host, deque(maxlen=_HEARD)).append(sample_of(news.seen, news.at))

    def line(self, host: str) -> HostLine | None:
        """How it stands."""
        return self._hosts.get(host)

    def samples(self, host: str) -> tuple[Sample, ...]:
        """What it did in the last minutes, as far as somebody looked."""
        return tuple(self._heard.get(host, ()))

    def _idle_since(self, host: str, seen: HostSeen, at: float) -> dict[int, float]:
        """Card -> since when it is held and does nothing. A sample that tells nothing ends that as work does:
        it is only said of what was seen all the time."""
        for index, gpu in enumerate(seen.gpus or ()):
            held = gpu is not None and (gpu.memory or 0) > _HELD
            if held and gpu is not None and gpu.use is not None and gpu.use <= _IDLE:
                self._idle.setdefault((host, index), at)
            else:
                self._idle.pop((host, index), None)
        if seen.gpus is None:
            self._idle = {key: since for key, since in self._idle.items() if key[0] != host}
        return {index: since for (each, index), since in self._idle.items() if each == host}

    @property
    def settled(self) -> bool:
        """Whether every host has said something, or is known to be lost."""
        return all(line.seen is not None or line.problem for line in self._hosts.values())

    def overview(self, runs: Sequence[RunLine], now: float) -> Overview:
        return Overview(hosts=tuple(self._hosts.values()), runs=tuple(runs), now=now)


class Hearing:
    """Hears what comes from ``source``, in a thread of its own, and reads ``runs`` in another: whoever shows
    them waits for neither, and holds neither up. `close` it."""

    def __init__(
        self,
        source: Generator[News | None, None, None],
        looking: Looking,
        runs: Callable[[], Sequence[RunLine]],
        *,
        closer: Closer | None = None,
        keep: Callable[[News], None] = lambda news: None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """``closer`` looks at what a row is about. ``keep`` is called with each news. ``now`` is the moment
        that is shown."""
        self._source = source
        self._looking = looking
        self._runs = runs
        self._closer = closer
        self._row: Row | None = None
        self._details: Details | None = None
        self._keep = keep
        self._now = now
        self._lines: Sequence[RunLine] = ()
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._over = threading.Event()
        self._read = threading.Event()
        self._look_now = threading.Event()
        self._fault: BaseException | None = None
        self._thread = threading.Thread(target=self._guarded, args=(self._hear,), name="hosts", daemon=True)
        self._reader = threading.Thread(target=self._guarded, args=(self._look,), name="runs", daemon=True)
        self._thread.start()
        self._reader.start()

    @property
    def over(self) -> bool:
        """Whether nothing more comes. Raises what ended it before its time."""
        if self._fault is not None:
            raise self._fault
        return self._over.is_set()

    def overview(self) -> Overview:
        with self._lock:
            return self._looking.overview(self._lines, self._now())

    @property
    def settled(self) -> bool:
        """Whether every host has said something, or is known to be lost."""
        with self._lock:
            return self._looking.settled

    def look_closer(self, row: Row | None) -> None:
        """Have `details` tell of this row from now on; None: of none."""
        with self._lock:
            self._row, self._details = row, None
        self._look_now.set()

    @property
    def details(self) -> Details | None:
        """None where they are not known yet."""
        with self._lock:
            return self._details

    def settle(self, timeout: float) -> Overview:
        """When every host has said something or is known to be lost, or time is over."""
        deadline = time.monotonic() + timeout
        while not (self.over or self.settled) and time.monotonic() < deadline:
            self._over.wait(TICK)
        self._read.wait(max(0.0, deadline - time.monotonic()))
        return self.overview()

    def pause(self, seconds: float) -> None:
        """Or until it is over."""
        self._over.wait(seconds)

    def close(self) -> None:
        """Without waiting for a disk that hangs."""
        self._stopped.set()
        self._look_now.set()
        self._thread.join(_LEAVE)
        self._reader.join(TICK)

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised again where it is shown
            self._fault = error
            self._read.set()
            self._over.set()

    def _hear(self) -> None:
        with closing(self._source) as source:
            for news in source:
                if self._stopped.is_set():
                    return
                if news is not None:
                    self._keep(news)
                    with self._lock:
                        self._looking.hear(news)
        self._over.set()

    def _look(self) -> None:
        while not self._stopped.is_set():
            self._look_now.clear()
            self._look_at_row()
            self._lines = self._runs()
            self._read.set()
            self._look_now.wait(_LOOK)

    def _look_at_row(self) -> None:
        with self._lock:
            row = self._row
            line = self._looking.line(row.host) if row is not None else None
            heard = self._looking.samples(row.host) if row is not None else ()
        if row is not None and line is not None and self._closer is not None:
            details = self._closer(row, line, heard, self._now())
            with self._lock:
                if self._row is row:
                    self._details = details


def watched(transport: Transport, hosts: Sequence[str], every: float) -> Generator[News | None, None, None]:
    """What hosts say, as it comes; None a few times a second, so that somebody may stop it. To be closed."""
    watch = TopWatch(transport, hosts, every)
    try:
        while True:
            for host, told in watch.news(TICK):
                if isinstance(told, HostSeen):
                    yield News(at=time.time(), host=host, seen=told)
                else:
                    yield News(at=time.time(), host=host, problem=told)
            yield None
    finally:
        watch.close()
