"""Keeps every log of this node within the run's limit: its beginning and its newest bytes stay, what lies
between becomes a hole in the file.

Who prints goes on appending and notices nothing, and offsets stay what they were. A cut is written down
before its bytes go: what was read of a place that is not written down afterwards is what was printed there.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import math
import os
import shutil
import stat
import time
import zlib

from .directory import CUTS

# Holes begin and end where every file system has the border of a block.
ALIGNED = 1 << 16
_KEEP_SIZE, _PUNCH_HOLE = 1, 2
_RECORD = 1 << 16
_TRIES = 100
# A look at all logs of a node costs less than a tenth of a millisecond.
LOOK_SECONDS, LEAST_SECONDS = 0.1, 0.01


def punch(descriptor, begin, end):
    """Give these bytes of the file back to the disk. Raises OSError where its file system cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    start, length = ctypes.c_int64(begin), ctypes.c_int64(end - begin)
    if libc.fallocate(descriptor, _KEEP_SIZE | _PUNCH_HOLE, start, length):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def can_cut(folder):
    """Whether the file system there gives the middle of a file back."""
    path = os.path.join(folder, ".clusterctl-hole-%d" % os.getpid())
    probe = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.pwrite(probe, b" ", 2 * ALIGNED)
        punch(probe, ALIGNED, 2 * ALIGNED)
    except OSError as error:
        return error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS)
    finally:
        os.close(probe)
        os.unlink(path)
    return True


def make_logs(directory, job):
    """The folder of the logs; elsewhere on this host where its file system cannot give back their middle."""
    folder = directory.path("logs")
    os.mkdir(folder, 0o700)
    if not job["log_limit"] or can_cut(folder):
        return
    local = "%s/clusterctl-logs-%s-%s" % (job["lock_dir"], job["run"], directory.part)
    os.mkdir(local, 0o700)
    if can_cut(local):
        os.rmdir(folder)
        os.symlink(local, folder)
    else:
        os.rmdir(local)
        job["log_limit"] = 0
        job["notes"].append("logs cannot be kept within --log-limit here: no file system can punch holes")


def remove_logs(directory):
    """All logs, wherever they lie."""
    folder = directory.path("logs")
    if os.path.islink(folder):
        shutil.rmtree(os.readlink(folder), ignore_errors=True)
        os.unlink(folder)
    shutil.rmtree(folder, ignore_errors=True)


def resume_of(size, head, limit):
    """Where the newest bytes begin that are kept of a log of ``size`` bytes; 0 while all of it is. They are a
    quarter of the limit at least, and with the ``head`` never more than the limit."""
    if size <= limit:
        return 0
    step = max(limit // 2 // ALIGNED, 1) * ALIGNED
    return head + (size - limit // 4 - head) // step * step


class LogLimit:
    """The agent's part: looks how long the logs are, and cuts them."""

    def __init__(self, directory, head, limit, times, listen, clock=time.monotonic):
        """``limit`` 0: none is cut. ``times`` are told of every log. ``listen``: have whoever calls `keep`
        woken once, when a log grows."""
        self.pause = LOOK_SECONDS
        """Seconds until the next look is due: what the fastest log needs for an eighth of its limit. Without
        end where none grows: whoever calls is woken."""
        self._times = times
        self._listen = listen
        self._listening = False
        self._clock = clock
        self._looked = clock()
        self._since = 0.0  # seconds from one look to the next
        self._directory = directory
        self._head = head
        self._limit = limit
        self._sizes: dict[str, int] = {}
        self._resume: dict[str, int] = {}

    def keep(self, *, woken=False):
        """Cut what has grown too long. A disk that refuses is asked again with the next look. ``woken``: a
        log may have."""
        now = self._clock()
        self._since, self._looked = now - self._looked, now
        self._listening = self._listening and not woken
        self.pause = math.inf
        with contextlib.suppress(OSError):
            for name in os.listdir(self._directory.path("logs")):
                with contextlib.suppress(OSError):
                    self._keep(name)
        if self.pause == math.inf and not self._listening:
            self._listen()
            self._listening = True
            self.pause = LOOK_SECONDS  # one may have grown in between
        self.pause = min(self.pause, self._times.write())

    def _keep(self, name):
        path = self._directory.path("logs/" + name)
        found = os.lstat(path)
        if not stat.S_ISREG(found.st_mode):  # its script has put it there, and knows what for
            return
        size = found.st_size
        self._times.saw(name, size)
        grown = size - self._sizes.get(name, 0)
        self._sizes[name] = size
        if grown > 0:
            due = self._since * self._limit / 8 / grown if self._limit else LOOK_SECONDS
            self.pause = max(LEAST_SECONDS, min(self.pause, LOOK_SECONDS, due))
        before, resume = self._resume.get(name, 0), resume_of(size, self._head, self._limit)
        if resume <= before or not self._limit:
            return
        log = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            self._directory.overwrite(CUTS, record(self._head, dict(self._resume, **{name: resume})))
            self._resume[name] = resume
            punch(log, self._head, resume)
        finally:
            os.close(log)


def record(head, resume):
    """What is written down. Who reads it while it is written knows by the sum."""
    return {"head": head, "resume": resume, "sum": _sum(head, resume)}


def _sum(head, resume):
    return zlib.crc32(json.dumps([head, sorted(resume.items())]).encode())


class Cuts:
    """What a relay knows of them; readable when the directory has been removed."""

    def __init__(self, directory):
        self._directory = directory
        self._file: int | None = None
        self._text = b""
        self._head = 0
        self._resume: dict[str, int] = {}

    def of(self, name):
        """(head, resume): these bytes and those between are gone, or may be; (0, 0) where none are."""
        self._read()
        resume = self._resume.get(name, 0)
        return (self._head, resume) if resume else (0, 0)

    def close(self):
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _read(self):
        if self._file is None:
            try:
                self._file = os.open(self._directory.path(CUTS), os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                return
        for _ in range(_TRIES):
            text = os.pread(self._file, _RECORD, 0)
            if text == self._text or not text.strip():
                return
            try:
                found = json.loads(text)
                head, resume = found["head"], found["resume"]
                if found["sum"] == _sum(head, resume):
                    self._text, self._head, self._resume = text, head, resume
                    return
            except (ValueError, KeyError, TypeError):
                continue
        raise OSError(errno.EIO, "%s cannot be read" % CUTS)
