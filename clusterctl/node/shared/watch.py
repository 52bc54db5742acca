"""Sleeps until a file changes, instead of looking again and again: home directories may lie on NFS.

inotify reports what processes of this host do, on every file system, and those are all who write here. Where
it cannot be had, `wait` returns often enough to look. Nothing may depend on being woken: a look once in a
while finds what was missed.
"""

import contextlib
import ctypes
import os
import select

MODIFIED, CLOSED, MOVED_HERE, CREATED, REMOVED = 0x2, 0x8, 0x80, 0x100, 0x200
_ITSELF_REMOVED = 0x400
_BLIND_SECONDS = 0.1


class Watch:
    """Watches directories and descriptors."""

    def __init__(self):
        self._poll = select.poll()
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._inotify = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        self.blind = self._inotify < 0
        if not self.blind:
            self._poll.register(self._inotify, select.POLLIN)

    def add(self, directory, mask):
        """Wake up for what ``mask`` names below this directory (not deeper)."""
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
        ready = self._poll.poll(max(0, int(seconds * 1000 + 0.999)))
        for descriptor, _ in ready:
            with contextlib.suppress(BlockingIOError):
                if not os.read(descriptor, 65536):
                    self._poll.unregister(descriptor)
        return bool(ready) or self.blind
