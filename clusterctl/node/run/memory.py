"""Was a rank killed for memory, and by which limit? Said only where the kernel says so.

Two sources: the kernel's log, which names the pid, and where that cannot be read the counters of the agent's
own control group, which count kills among its members. A counter of the whole host proves nothing about a
rank.
"""

import os
import re

from ..shared.files import read

# The first comes before the kill, but not always: the kernel prints so much at most. Then it names the group.
_CHOSEN = re.compile(rb"oom-kill:.*,(?:oom_memcg=([^,]*)|global_oom),.*,pid=(\d+),uid=")
_KILLED = re.compile(rb"(Memory cgroup out|Out) of memory[^:]*: Killed process (\d+) ")
_FIRST_PID_NAMESPACE = 0xEFFFFFFC
_HOST = "the host's memory is used up"


class OutOfMemory:
    """``root`` and ``membership`` are where control groups lie, and which are this process's; ``log`` is a
    descriptor of the kernel's, None where it is no help."""

    def __init__(self, root="/sys/fs/cgroup", membership="/proc/self/cgroup", log=-1):
        self.groups = groups_around(root, membership)
        self.before = self._kills()
        self.limits_before = self._limits_hit()
        if log == -1:
            log = kernel_log() if pids_are_the_kernels() else None
        self.log = log
        self.logged: dict[int, str] = {}

    def limit_that_killed(self, pid):
        """In words, for a process that SIGKILL has just ended; "" where nothing proves it."""
        self._read_log()
        if pid in self.logged:
            return self.logged[pid]
        # Each kill that was counted and is not another's by the log explains one process.
        if self._kills() > self.before + len(self.logged):
            self.before += 1
            return self._limit()
        return ""

    def _limit(self):
        for group, hit in self._limits_hit().items():
            limit = group.limit()
            if hit > self.limits_before.get(group, 0) and limit:
                return _limit_of(group.name, limit)
        limited = next((group for group in self.groups if group.limit() and not group.unified), None)
        if limited is not None:  # its limit may have been reached before, by files that are only cached
            return _limit_of(limited.name, limited.limit()) + ", or the host's own"
        return _HOST + ": the kernel chose this process"

    def _kills(self):
        return self.groups[0].kills() if self.groups else 0

    def _limits_hit(self):
        return {group: group.limit_hit() for group in self.groups}

    def _read_log(self):
        while self.log is not None:
            try:
                line = os.read(self.log, 8192)
            except BrokenPipeError:
                continue  # lines were overwritten before we read them
            except OSError:  # EAGAIN: that was the last
                return
            chosen, killed = _CHOSEN.search(line), _KILLED.search(line)
            if chosen:
                name = (chosen.group(1) or b"").decode("utf-8", "replace")
                self.logged[int(chosen.group(2))] = self._named(name) if name else _HOST
            elif killed:
                group = killed.group(1).startswith(b"Memory")
                self.logged.setdefault(int(killed.group(2)), _limit_of() if group else _HOST)

    def _named(self, name):
        limit = self.groups[0].sibling(name).limit() if self.groups else ""
        return _limit_of(name, limit)


def _limit_of(name="", limit=""):
    words = "the memory limit of control group %s" % name if name else "a control group's memory limit"
    return words + (", " + limit if limit else "")


class Group:
    """One control group, version 1 or 2."""

    def __init__(self, base, name, unified):
        self.base = base
        self.path = base + name.rstrip("/")
        self.name = name
        self.unified = unified

    def sibling(self, name):
        return Group(self.base, name, self.unified)

    def kills(self):
        """Of members; version 2 counts those of groups within it, too."""
        return self._counter("oom_kill", "memory.events" if self.unified else "memory.oom_control") or 0

    def limit_hit(self):
        """How often this group's own limit was in the way; in version 1 also where no kill was needed."""
        if not self.unified:  # newer kernels no longer count, but keep the highest
            return int(read(os.path.join(self.path, "memory.failcnt")) or 0) + self._was_full()
        local = self._counter("oom", "memory.events.local")
        return (self._counter("oom", "memory.events") if local is None else local) or 0

    def limit(self):
        """In words; "" where there is none."""
        size = self.limit_bytes()
        if size is None:
            return ""
        return "%.1f GB" % (size / 1e9) if size >= 1e9 else "%.0f MB" % (size / 1e6)

    def limit_bytes(self):
        """None where there is none."""
        text = read(os.path.join(self.path, "memory.max" if self.unified else "memory.limit_in_bytes"))
        size = int(text) if text.isdigit() else 1 << 62
        return size if size < 1 << 62 else None

    def used_bytes(self):
        """What cannot be given back: files that are only cached can. None where the kernel does not tell."""
        text = read(os.path.join(self.path, "memory.current" if self.unified else "memory.usage_in_bytes"))
        if not text.isdigit():
            return None
        prefix = "" if self.unified else "total_"
        cached = [
            self._counter(prefix + name, "memory.stat") or 0 for name in ("active_file", "inactive_file")
        ]
        return max(0, int(text) - sum(cached))

    def _was_full(self):
        most, limit = read(os.path.join(self.path, "memory.max_usage_in_bytes")), self.limit_bytes()
        return most.isdigit() and limit is not None and int(most) >= limit

    def _counter(self, key, name):
        for line in read(os.path.join(self.path, name)).splitlines():
            words = line.split()
            if words[:1] == [key]:
                return int(words[1])
        return None


def groups_around(root, membership):
    """The process's own group first, then those around it."""
    for line in read(membership).splitlines():
        number, kinds, path = line.split(":", 2)
        unified = number == "0" and os.path.exists(os.path.join(root, "cgroup.controllers"))
        if unified or "memory" in kinds.split(","):
            base = root if unified else os.path.join(root, "memory")
            found = [Group(base, path, unified)]
            while path != "/":
                path = os.path.dirname(path)
                found.append(Group(base, path, unified))
            return found
    return []


def pids_are_the_kernels():
    """Whether pids in the kernel's log mean the same here."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino == _FIRST_PID_NAMESPACE
    except OSError:
        return False


def kernel_log():
    """A descriptor of its end, where this user may read it."""
    try:
        log = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.lseek(log, 0, os.SEEK_END)
    except OSError:
        return None
    return log
