"""Was a rank killed for memory, and by which limit? Said only where the kernel says so.

Two sources: the counters of the agent's own control group, which count kills among its members, and the
kernel's log, which names the pid. A counter of the whole host proves nothing about a rank.
"""

import os
import re

_KILLED = re.compile(rb"(Memory cgroup out|Out) of memory[^:]*: Killed process (\d+) ")
_FIRST_PID_NAMESPACE = 0xEFFFFFFC


class OutOfMemory:
    """``root`` and ``membership`` are where control groups lie, and which are this process's."""

    def __init__(self, root="/sys/fs/cgroup", membership="/proc/self/cgroup"):
        self.groups = _groups(root, membership)
        self.before = self._kills()
        self.limits_before = self._limits_hit()
        self.log = _kernel_log()

    def limit_that_killed(self, pid):
        """In words, for a process that SIGKILL has just ended; "" where nothing proves it. Each kill that
        was counted explains one process."""
        if self._kills() > self.before:
            self.before += 1
            return self._limit()
        return self._logged(pid)

    def _limit(self):
        for group, hit in self._limits_hit().items():
            limit = _limit_of(group)
            if hit > self.limits_before.get(group, 0) and limit:
                return "the memory limit of control group %s, %s" % (group.name, limit)
        return "the host's memory is used up: the kernel chose this process"

    def _kills(self):
        return self.groups[0].counter("oom_kill") if self.groups else 0

    def _limits_hit(self):
        return {group: group.counter("oom", local=True) for group in self.groups}

    def _logged(self, pid):
        if self.log is None:
            return ""
        while True:
            try:
                line = os.read(self.log, 8192)
            except BrokenPipeError:
                continue  # lines were overwritten before we read them
            except OSError:
                return ""
            found = _KILLED.search(line)
            if found and int(found.group(2)) == pid:
                group = found.group(1).startswith(b"Memory")
                return "a control group's memory limit" if group else "the host's memory is used up"


class _Group:
    """One control group, version 1 or 2."""

    def __init__(self, path, name, unified):
        self.path = path
        self.name = name
        self.unified = unified

    def counter(self, key, local=False):
        names = ["memory.events.local", "memory.events"] if local else ["memory.events"]
        for name in names if self.unified else ["memory.oom_control"]:
            for line in _read(os.path.join(self.path, name)).splitlines():
                words = line.split()
                # Version 1 counts only kills, and those where the limit lies.
                if words[:1] == [key if self.unified else "oom_kill"]:
                    return int(words[1])
        return 0


def _groups(root, membership):
    """The process's own group first, then those around it."""
    for line in _read(membership).splitlines():
        number, kinds, path = line.split(":", 2)
        unified = number == "0" and os.path.exists(os.path.join(root, "cgroup.controllers"))
        if unified or "memory" in kinds.split(","):
            base = root if unified else os.path.join(root, "memory")
            found = [_Group(base + path.rstrip("/"), path, unified)]
            while path != "/":
                path = os.path.dirname(path)
                found.append(_Group(base + path.rstrip("/"), path, unified))
            return found
    return []


def _limit_of(group):
    text = _read(os.path.join(group.path, "memory.max" if group.unified else "memory.limit_in_bytes"))
    if not text.isdigit() or int(text) >= 1 << 62:
        return ""
    return "%.1f GB" % (int(text) / 1e9)


def _kernel_log():
    """Its end, where this user may read it and pids mean the same there as here."""
    try:
        if os.stat("/proc/self/ns/pid").st_ino != _FIRST_PID_NAMESPACE:
            return None
        log = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.lseek(log, 0, os.SEEK_END)
    except OSError:
        return None
    return log


def _read(path):
    try:
        with open(path) as stream:
            return stream.read().strip()
    except OSError:
        return ""
