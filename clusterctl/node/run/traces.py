"""What processes that are killed leave in the file system, taken away by their agent: shared memory that they
had open, and torch's locks on what they compiled, for which the next run would wait for ever.

Only what this run has left: the shared memory that its own processes had open, and locks from its time that
nobody has open. What lies on a network file system is another host's as well, and stays.
"""

from __future__ import annotations

import contextlib
import glob
import os
import stat
import threading
import time

from ..shared.open_files import opened, opened_by_user
from ..shared.processes import process_table, run_processes

SHM = "/dev/shm"
LOCKS = ("*/lock", "*/*/lock")
# A process that waits in the kernel can hold up who looks at its memory.
LOOK_TIMEOUT = 0.5
LOCAL = {"btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "ramfs", "tmpfs", "xfs", "zfs"}


class Traces:
    def __init__(self, tag, env, shm=SHM):
        self._tag = tag
        self._shm = shm
        self._began = time.time() - 1.0  # clocks of file systems tick slower
        self._seen: set[str] = set()
        cache = env.get("XDG_CACHE_HOME") or os.path.join(env.get("HOME", "/nonexistent"), ".cache")
        self._extensions = env.get("TORCH_EXTENSIONS_DIR") or os.path.join(cache, "torch_extensions")

    def note(self, below):
        """Before they are ended: what shared memory the run's processes have open."""
        with contextlib.suppress(OSError):
            if not any(is_own_file(os.path.join(self._shm, name)) for name in os.listdir(self._shm)):
                return
        looking = threading.Thread(target=self._look, args=(below,), daemon=True)
        looking.start()
        looking.join(LOOK_TIMEOUT)

    def _look(self, below):
        table = process_table()
        for pid in run_processes(self._tag, below):
            with contextlib.suppress(OSError):
                if pid in table and table[pid].state != "D":
                    self._seen |= opened(pid, self._shm)

    def remove(self):
        """After their end. Paths of what went."""
        gone = []
        for folder, paths in ((self._shm, set(self._seen)), (self._extensions, self._locks())):
            mine = {path for path in paths if is_own_file(path)}
            in_use = opened_by_user(folder) if mine else None
            for path in sorted(mine - in_use) if in_use is not None else ():
                with contextlib.suppress(OSError):
                    os.unlink(path)
                    gone.append(path)
        return gone

    def _locks(self):
        if type_of(self._extensions) not in LOCAL:
            return set()
        found = [path for each in LOCKS for path in glob.glob(os.path.join(self._extensions, each))]
        return {path for path in found if os.path.lexists(path) and os.lstat(path).st_mtime >= self._began}


def is_own_file(path):
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid()


def type_of(path):
    """The type of the file system where ``path`` lies; "" where nobody tells."""
    best = ("", "")
    with contextlib.suppress(OSError), open("/proc/self/mounts", errors="replace") as stream:
        real = os.path.realpath(path) + "/"
        for line in stream:
            words = line.split()
            place = words[1].rstrip("/") + "/"
            if real.startswith(place) and len(place) >= len(best[0]):
                best = (place, words[2])
    return best[1]
