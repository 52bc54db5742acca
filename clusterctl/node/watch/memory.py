"""How near memory is to its limits: those of this session's control groups, and the host's own."""

from __future__ import annotations

from ..run.memory import groups_around
from ..shared.files import read
from .space import size_in_words

NEAR = 0.90
AWAY = 0.80
SCANT = 0.04
PLENTY = 0.08


class Memory:
    def __init__(self, root="/sys/fs/cgroup", membership="/proc/self/cgroup", meminfo="/proc/meminfo"):
        self._groups = groups_around(root, membership)
        self._kills = [group.kills() for group in self._groups]
        self._meminfo = meminfo
        self._near: set[str] = set()

    def look(self, teller, at_once):
        limited = [group for group in self._groups if group.limit_bytes()]
        for group in limited:
            self._look_at(group, teller)
        self._look_for_kills(teller)
        self._look_at_host(teller)

    def _look_at(self, group, teller):
        used, limit = group.used_bytes(), group.limit_bytes()
        if used is None or not limit:
            return
        near = self._is_near(group.path, used / limit, NEAR, AWAY)
        words = (size_in_words(used), size_in_words(limit), group.name or "/")
        teller.state(
            "memory", group.path, near, "%s of the %s that control group %s may have are used" % words
        )

    def _look_for_kills(self, teller):
        """Of members, which may be a data loader or another job of the same session."""
        for number, group in enumerate(self._groups[:1]):
            kills = group.kills()
            if kills > self._kills[number]:
                self._kills[number] = kills
                limits = [each for each in self._groups if each.limit()]
                whose = "%s, %s" % (limits[0].name or "/", limits[0].limit()) if limits else group.name or "/"
                text = "the kernel killed a process for memory in control group %s" % whose
                teller.tell("memory", "kills of " + group.path, text)

    def _look_at_host(self, teller):
        found = dict(line.split(":", 1) for line in read(self._meminfo).splitlines() if ":" in line)
        try:
            total, free = (int(found[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
        except (KeyError, IndexError, ValueError):
            return
        near = self._is_near("host", 1 - free / total, 1 - SCANT, 1 - PLENTY)
        words = (size_in_words(free), size_in_words(total))
        teller.state("memory", "host", near, "%s of the host's %s of memory are available" % words)

    def _is_near(self, subject, share, near, away):
        if share >= near or (subject in self._near and share >= away):
            self._near.add(subject)
            return True
        self._near.discard(subject)
        return False
