"""Sleeps until a file changes, instead of looking again and again: home directories may lie on NFS.

inotify reports what processes of this host do, on every file system, and those are all who write here. Where
it cannot be had, `wait` returns often enough to look. Nothing may depend on being woken: a look once in a
while finds what was missed.
"""

import contextlib
import ctypes
import os
import select
import struct

MODIFIED, CLOSED, MOVED_HERE, CREATED, REMOVED = 0x2, 0x8, 0x80, 0x100, 0x200
ONCE = 0x80000000
_ITSELF_REMOVED = 0x400
_BLIND_SECONDS = 0.1
_EVENT = struct.Struct("=iIII")  # watch, mask, cookie, length of the name that follows


class Watch:
    """Watches directories and descriptors; files named in ``ignored`` change too often to be of interest."""

    def __init__(self, *ignored):
        self._ignored = {os.fsencode(name) for name in ignored}
        self._poll = select.poll()
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._inotify = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        self.blind = self._inotify < 0
        if not self.blind:
            self._poll.register(self._inotify, select.POLLIN)

    def add(self, directory, mask):
        """Wake up for what ``mask`` names below this directory (not deeper); with ONCE, for one of those."""
        if self.blind:
            return
        found = self._libc.inotify_add_watch(self._inotify, os.fsencode(directory), mask | _ITSELF_REMOVED)
        self.blind = found < 0

    def add_descriptor(self, descriptor):
        """Wake up when it can be read. What is there is read and dropped by `wait`."""
        os.set_blocking(descriptor, False)
        self._poll.register(descriptor, select.POLLIN)

    def wait(self, seconds):
        """Sleep at most so long. True when something has changed, or may have."""
        if self.blind:
            seconds = min(seconds, _BLIND_SECONDS)
        changed = self.blind
        for descriptor, _ in self._poll.poll(max(0, int(seconds * 1000 + 0.999))):
            with contextlib.suppress(BlockingIOError):
                data = os.read(descriptor, 65536)
                if not data:
                    self._poll.unregister(descriptor)
                changed = changed or descriptor != self._inotify or self._matters(data)
        return changed

    def _matters(self, data):
        """Whether one of these events is about a file of interest."""
        position = 0
        while position < len(data):
            length = _EVENT.unpack_from(data, position)[3]
            position += _EVENT.size + length
            if data[position - length : position].rstrip(b"\0") not in self._ignored:
                return True
        return False
