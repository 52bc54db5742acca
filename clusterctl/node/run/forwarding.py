"""Sends what grows in a run directory: log bytes and events, each from an offset on.

A new relay on a new connection goes on where the old one stopped. Logs are sent no faster than they are
acknowledged, so that on a slow link events and heartbeats wait about a second behind them, not for ever.
What the agent cuts out of a log meanwhile is told in its place.
"""

from __future__ import annotations

import collections
import contextlib
import errno
import hashlib
import json
import os
import re
import stat
import time
import zlib

from ..shared.wire import emit, emit_bytes, sendable
from .directory import EVENTS
from .log_limit import Cuts

SENT = re.compile(
    r"((rank-\d{1,6}|agent)(\.attempt-\d{1,3})?\.log|metrics-\d{1,6}(\.attempt-\d{1,3})?\.jsonl"
    r"|(samples|times)(\.attempt-\d{1,3})?\.ndjson|flight-\d{1,6}(\.attempt-\d{1,3})?\.pickle)\Z",
    re.ASCII,
)
PIECE = 192 * 1024
BLOCK = 1 << 20
# Packing must save what it costs: 6 ms of CPU a MiB for a training log, which becomes a third, but 21 ms for
# base64, which becomes three quarters. Of a log that shrinks too little only every so many-th piece is tried,
# and of none where the link takes all as it is.
PACKED = 0.6
SMALL = 1024
TRY_AGAIN = 16


class Window:
    """How many bytes of logs may be on their way, that is sent and not acknowledged; and how fast they go."""

    FIRST = 32 * 1024
    SMALLEST = 8 * 1024  # less than a second of 150 kbit/s
    LARGEST = 4 * 1024 * 1024
    SLOW = 1.0
    FAST = 12 * 1024 * 1024  # bytes a second: 100 Mbit/s are less

    def __init__(self, clock=time.monotonic):
        self.size = self.FIRST
        self.fast = False
        self._clock = clock
        self._sent = 0
        self._received = 0
        self._was_full = False
        self._marks: collections.deque[tuple[int, float, int]] = collections.deque(maxlen=4096)

    def piece(self):
        """Bytes that may be sent now, in one message: a quarter of the window at most; 0 when it is full."""
        room = self.size - (self._sent - self._received)
        piece = min(PIECE, self.size // 4)
        if room >= piece:
            return piece
        self._was_full = True
        return 0

    def sent(self, count):
        self._sent += count
        self._marks.append((self._sent, self._clock(), self._sent - self._received))

    def acknowledge(self, received):
        """Twice the window if it held us up and the answer came soon; half of it if that came late."""
        self._received = max(self._received, min(received, self._sent))
        sent_at, under_way = None, 0
        while self._marks and self._marks[0][0] <= self._received:
            _, sent_at, under_way = self._marks.popleft()
        if sent_at is None:
            return
        if under_way >= self.FIRST:  # of less, the way there and back is most of the time
            self.fast = under_way > self.FAST * (self._clock() - sent_at)
        if self._clock() - sent_at > self.SLOW:
            self.size = max(self.SMALLEST, self.size // 2)
        elif self._was_full:
            self.size = min(self.LARGEST, self.size * 2)
        self._was_full = False


class GrowingFile:
    """A file that is read on from an offset; it stays readable when it has been removed."""

    def __init__(self, path, offset):
        self.offset = offset
        self.head = self.resume = 0  # bytes from the one to the other are gone
        self._stiff = 0  # so many pieces are not tried to be packed
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        if not stat.S_ISREG(os.fstat(self._file).st_mode):
            os.close(self._file)
            raise OSError(errno.EINVAL, "not a regular file", path)
        # Of what a former relay has sent, the hash is taken at the end.
        self._hash = hashlib.sha256() if offset == 0 else None

    def size(self):
        return os.fstat(self._file).st_size

    def read(self, limit, head=0):
        """The next bytes, at most ``limit``, and none beyond ``head`` where the offset lies before that;
        `advance` says how many were used."""
        if self.offset < head:
            limit = min(limit, head - self.offset)
        return os.pread(self._file, limit, self.offset)

    def cut(self, head, resume):
        """Bytes between these are gone, whether they have been read or not."""
        self.head, self.resume, self._hash = head, resume, None
        self.offset = max(self.offset, resume)

    def packed(self, data):
        """The same bytes shorter, or None where that is not worth it."""
        if len(data) < SMALL or self._stiff:
            self._stiff = max(0, self._stiff - 1)
            return None
        found = zlib.compress(data, 1)
        if len(found) < PACKED * len(data):
            return found
        self._stiff = TRY_AGAIN
        return None

    def before(self):
        return os.pread(self._file, self.offset, 0)

    def advance(self, data):
        self.offset += len(data)
        if self._hash is not None:
            self._hash.update(data)

    def fingerprint(self, meanwhile):
        """Size of all up to here, and the hash of what is left of it. ``meanwhile`` is called now and then:
        this may take minutes."""
        if self._hash is None:
            self._hash = hashlib.sha256()
            for position, end in ((0, self.head), (self.resume, self.offset)):
                while position < end:
                    block = os.pread(self._file, min(BLOCK, end - position), position)
                    if not block:
                        break
                    position += len(block)
                    self._hash.update(block)
                    meanwhile()
        mark = {"size": self.offset, "sha256": self._hash.hexdigest()}
        return dict(mark, head=self.head, resume=self.resume)

    def close(self):
        os.close(self._file)


class Forwarder:
    def __init__(self, directory, offsets):
        self.window = Window()
        self.ended = False  # the agent's last event has been sent
        self._directory = directory
        self._offsets = offsets
        self._logs: dict[str, GrowingFile] = {}
        self._events: GrowingFile | None = None
        self._cuts = Cuts(directory)

    def look(self):
        """Find logs that are new."""
        names = []
        with contextlib.suppress(OSError):
            names = sorted(os.listdir(self._directory.path("logs")))
        for name in names:
            # Scripts know this folder: their metrics lie there, and who knows what else.
            if name not in self._logs and SENT.match(name):
                with contextlib.suppress(OSError):
                    path = self._directory.path("logs/" + name)
                    self._logs[name] = GrowingFile(path, self._offsets.get(name, 0))
        if self._events is None:
            with contextlib.suppress(OSError):
                self._events = GrowingFile(self._directory.path(EVENTS), self._offsets.get(EVENTS, 0))
                self.ended = has_end(self._events.before().splitlines())

    def forward(self, *, samples=True):
        """Send what has grown: a piece of each log, then all events. True when there is more to send at once.

        So the word of an end comes after the last lines, and yet no flood of lines delays anybody's failure.
        Without ``samples`` those of the host wait.
        """
        events = self._whole_lines()
        wanted = [name for name in self._logs if samples or not name.startswith("samples")]
        more = [self._forward_log(name) for name in wanted]
        if more:  # whom a full window cuts off is first some day
            first = next(iter(self._logs))
            self._logs[first] = self._logs.pop(first)
        self._forward_events(events)
        return any(more)

    def has_end(self):
        """Whether the agent has said its last word, sent or not."""
        return self.ended or has_end(self._whole_lines())

    def is_level(self):
        """Whether all that is there has been sent."""
        return all(log.size() <= log.offset for log in self._logs.values()) and not self._whole_lines()

    def fingerprints(self, meanwhile):
        for name in self._logs:
            self._tell_cut(name)
        return {name: log.fingerprint(meanwhile) for name, log in self._logs.items()}

    def close(self):
        for each in [*self._logs.values(), *([self._events] if self._events else [])]:
            each.close()
        self._cuts.close()
        self._logs, self._events = {}, None

    def _forward_log(self, name):
        log = self._logs[name]
        limit = self.window.piece() if log.size() > log.offset else 0
        data = log.read(limit, self._tell_cut(name)) if limit else b""
        if not data:
            return False
        head, resume = self._cuts.of(name)
        if resume <= log.resume or log.offset + len(data) <= head:  # else what was read may be a hole
            packed = None if self.window.fast else log.packed(data)
            kind = "log" if packed is None else "packed-log"
            emit_bytes({"is": kind, "name": name, "offset": log.offset}, packed or data)
            log.advance(data)
            self.window.sent(len(data))
        return log.size() > log.offset

    def _tell_cut(self, name):
        """Say what is gone of it, once its beginning has been sent. Where that ends; 0 where it is whole."""
        log = self._logs[name]
        head, resume = self._cuts.of(name)
        if resume > log.resume and log.offset >= head:
            emit({"is": "cut", "name": name, "head": head, "resume": resume})
            log.cut(head, resume)
        return head

    def _whole_lines(self):
        if self._events is None:
            return []
        data = self._events.read(self._events.size())
        return data[: data.rfind(b"\n") + 1].splitlines(keepends=True)

    def _forward_events(self, lines):
        for line in lines:
            assert self._events is not None
            self._events.advance(line)
            event = event_of(line)
            if event is None:
                why = "a line of %d bytes, not a JSON object" % len(line)
                emit({"is": "garbled-event", "offset": self._events.offset, "why": why})
            else:
                emit({"is": "event", "offset": self._events.offset, "event": sendable(event)})
        self.ended = self.ended or has_end(lines)


def event_of(line):
    """What a line of the events says; None where it is no event: others may have written there."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) else None


def has_end(lines):
    return any((event_of(line) or {}).get("event") == "end" for line in lines)
