"""Free space where a run writes. Each file system is asked in a thread of its own: one that does not answer
is unknown until it does, and is told after a while."""

from __future__ import annotations

import contextlib
import os
import threading
import time

from ..shared.files import read

FULL = 0.90
ROOM_AGAIN = 0.85
SILENT = 60.0
AT_ONCE = 0.3
# Of the walk for what is largest.
MOST_ENTRIES = 20_000
WALK_SECONDS = 2.0
SHOWN = 3


class Space:
    def __init__(self, places, statvfs=os.statvfs):
        self._askers: dict[str, _Asker] = {}
        mounts = _mounts()
        for place in dict.fromkeys(os.path.abspath(place) for place in places):
            mount = _mount_of(place, mounts)
            if mount is not None:
                asker = self._askers.setdefault(mount[0], _Asker(mount, statvfs))
                asker.places.append(place)

    def look(self, teller, at_once):
        askers = list(self._askers.values())
        if at_once:
            deadline = time.monotonic() + AT_ONCE
            for asker in askers:
                asker.ask()
            for asker in askers:
                asker.done.wait(max(0.0, deadline - time.monotonic()))
        for asker in askers:  # what has been answered since the last look
            asker.report(teller)
            asker.ask()


class _Asker:
    """One file system. ``source`` of a network one is what hosts have in common."""

    def __init__(self, mount, statvfs):
        self.point, source = mount
        self.subject = source if ":/" in source or source.startswith("//") else self.point
        self.places: list[str] = []
        self.done = threading.Event()
        self._statvfs = statvfs
        self._wanted = threading.Semaphore(0)
        self._thread: threading.Thread | None = None
        self._asked: float | None = None
        self._found: os.statvfs_result | None = None
        self._files: list[tuple[str, int]] = []
        self._is_full = False

    def ask(self):
        if self._asked is not None:
            return  # it has not answered yet
        self._asked = time.monotonic()
        self.done.clear()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, daemon=True)
            self._thread.start()
        self._wanted.release()

    def _work(self):
        while True:
            self._wanted.acquire()
            try:
                found = self._statvfs(self.point)
                used = share_used(found)
                if used is not None and used >= FULL and not self._is_full:
                    self._files = largest(self.places, self.point)
                self._found = found
            except OSError:
                self._found = None
            self._asked = None
            self.done.set()

    def report(self, teller):
        asked = self._asked
        silent = asked is not None and time.monotonic() - asked > SILENT
        answered = None if asked is not None and not silent else silent
        teller.state(
            "space",
            "silent " + self.subject,
            answered,
            "the file system of %s has not answered for a minute" % self.point
            if silent
            else "the file system of %s answers again" % self.point,
        )
        found = self._found if asked is None else None
        used = share_used(found) if found is not None else None
        if found is None or used is None:
            return
        self._is_full = used >= FULL or (self._is_full and used >= ROOM_AGAIN)
        teller.state(
            "space",
            self.subject,
            self._is_full,
            self._words(found, used),
            self._files if self._is_full else (),
        )

    def _words(self, found, used):
        sizes = [size_in_words(blocks * found.f_frsize) for blocks in (found.f_bavail, found.f_blocks)]
        if not self._is_full:
            return "%s has room again: %s of %s left" % (self.point, *sizes)
        left = "%s is %d %% full: %s of %s left" % (self.point, int(used * 100), *sizes)
        if found.f_files and not found.f_favail:
            left = "%s has room for no more files (inodes)" % self.point
        if not self._files:
            return left
        return (
            left
            + "; largest: "
            + ", ".join("%s (%s)" % (path, size_in_words(size)) for path, size in self._files)
        )


def share_used(found):
    """As `df` counts, of what an ordinary user may have; None for what has no size."""
    if not found.f_blocks:
        return None
    if found.f_files and not found.f_favail:
        return 1.0
    used = found.f_blocks - found.f_bfree
    return used / (used + found.f_bavail) if used + found.f_bavail else 1.0


def size_in_words(size):
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if size >= unit:
            return "%.1f %s" % (size / unit, name)
    return "%d kB" % (size // 1000)


def largest(places, point):
    """(path, bytes) of this user's largest files below ``places`` on the file system at ``point``; of a large
    tree, of as much as is seen in a moment."""
    found, seen, deadline = [], set(), time.monotonic() + WALK_SECONDS
    device = os.stat(point).st_dev
    own = os.getuid()
    todo = list(places)
    left = MOST_ENTRIES
    while todo and left > 0 and time.monotonic() < deadline:
        folder = todo.pop()
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                left -= 1
                if left <= 0:
                    break
                with contextlib.suppress(OSError):
                    stat = entry.stat(follow_symlinks=False)
                    if stat.st_dev != device or stat.st_ino in seen:
                        continue
                    seen.add(stat.st_ino)
                    if entry.is_dir(follow_symlinks=False):
                        todo.append(entry.path)
                    elif stat.st_uid == own:
                        found.append((stat.st_blocks * 512, entry.path))
    return [(path, size) for size, path in sorted(found, reverse=True)[:SHOWN] if size]


def _mounts():
    """(mount point, source), the innermost last."""
    found = []
    for line in read("/proc/self/mounts").splitlines():
        fields = line.split(" ")
        if len(fields) > 2:
            found.append((_unescaped(fields[1]), _unescaped(fields[0])))
    return sorted(found, key=lambda mount: len(mount[0]))


def _mount_of(place, mounts):
    """By name alone: no file system is asked, which may not answer."""
    best = None
    for point, source in mounts:
        if place == point or place.startswith(point.rstrip("/") + "/"):
            best = (point, source)
    return best


def _unescaped(text):
    return text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
