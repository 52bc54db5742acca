"""The processes of this node: who they are, which belong to a run, and how they are ended.

They are found by parentage and by the mark in their environment, never by name: a name also fits other
people's jobs. A process is known by its pid *and* its start time, because pids are used again.
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import os
import signal
import threading
import time

# How long what was killed may take: where it waits in the kernel or may not be killed, and where it only has
# to be given a processor, of which a busy host has few.
STUCK_TIMEOUT = 5.0
DYING_TIMEOUT = 30.0
TICK = 0.05
# So long one reading of an environment may wait in the kernel.
READ_TIMEOUT = 2.0
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
_PIDFD_OPEN = 434  # on every architecture; the os module of Python 3.8 does not have it

Stat = collections.namedtuple("Stat", "parent state started")
Stat.__doc__ = """One line of the process table; ``started`` is in clock ticks since boot. ``state`` is that
of the main thread, or where that has ended before others that of one of those."""
_DEAD = ("Z", "X")
_PF_EXITING = 0x4
_MARK = b"CLUSTERCTL_RUN="
_unreadable: set[tuple[int, int]] = set()


def stat_of(pid):
    """The process's `Stat`, or None where there is none."""
    try:
        with open("/proc/%d/stat" % pid, "rb") as stream:
            fields = stream.read().rpartition(b")")[2].split()
    except OSError:
        return None
    state = fields[0].decode()
    if state in _DEAD and int(fields[17]) > 1:
        state = next((each for _, each in threads(pid) if each not in _DEAD), state)
    return Stat(int(fields[1]), state, int(fields[19]))


def threads(pid):
    """(id, state) of the process's threads: one that waits in the kernel keeps a process whose main thread
    is a zombie already."""
    with contextlib.suppress(OSError):
        for entry in os.listdir("/proc/%d/task" % pid):
            with open("/proc/%d/task/%s/stat" % (pid, entry), "rb") as stream:
                yield int(entry), stream.read().rpartition(b")")[2].split()[0].decode()


def process_table():
    """{pid: Stat} of everything this user can see."""
    pids = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
    return {pid: stat for pid, stat in ((pid, stat_of(pid)) for pid in pids) if stat is not None}


def boot_id():
    """Names this boot of the machine; "" where the kernel does not tell."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as stream:
            return stream.read().strip()
    except OSError:
        return ""


def identity(pid):
    """What tells this process from every other, in JSON; ``started`` is 0 when it is gone already."""
    stat = stat_of(pid)
    return {"pid": pid, "started": stat.started if stat else 0, "boot": boot_id()}


def is_running(pid, started):
    """Whether that very process lives; a zombie does not."""
    stat = stat_of(pid)
    return stat is not None and stat.started == started and stat.state not in _DEAD


def open_pidfd(pid):
    """A descriptor that becomes readable when the process ends; None on kernels before 5.3."""
    found = ctypes.CDLL(None).syscall(_PIDFD_OPEN, pid, 0)
    return found if found >= 0 else None


def send(pid, number):
    """Signal a process. False when it is gone, or belongs to somebody else by now (a setuid program)."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def die_with_parent(parent):
    """Be killed when the parent thread ends; at once if it has ended already."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def adopt_orphans():
    """Become the parent of every descendant whose own parent ends."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def handles(pid, number):
    """Whether the process has a handler of its own for this signal."""
    try:
        with open("/proc/%d/status" % pid) as stream:
            caught = [line.split()[1] for line in stream if line.startswith("SigCgt:")]
    except OSError:
        return False
    return bool(caught and int(caught[0], 16) >> (number - 1) & 1)


def descendants(roots, table):
    """Pids of everything that descends from ``roots``, which are not among them unless one of another."""
    found: set[int] = set()
    grew = True
    while grew:
        children = {pid for pid, stat in table.items() if stat.parent in found or stat.parent in roots}
        grew = not children <= found
        found |= children
    return found


def part_of(node_rank, attempt):
    """The name of a node's part of one attempt at a run: each has a directory and a mark of its own."""
    return str(node_rank) if attempt == 1 else "%d.attempt-%d" % (node_rank, attempt)


def tag_of(run_id, part):
    """The value of CLUSTERCTL_RUN in a node's processes. Hosts made of namespaces may share their processes,
    so the node is part of it."""
    return "%s/%s" % (run_id, part)


def run_processes(tag, below=None):
    """Pids of a node's part of a run, less zombies: marked in their environment, or descended from one.

    ``below`` is the agent's own pid: orphans fall to it even when they have cleared their environment, and
    what has become root hides its own. It and the caller are never listed.
    """
    table = process_table()
    roots = set() if below is None else {below}
    own = descendants(roots, table)
    found = own | {pid for pid, mark in _marks(table, own).items() if mark == tag}
    found |= descendants(found, table)
    return sorted(pid for pid in found - roots - {os.getpid()} if table[pid].state not in _DEAD)


def environ_marks(pids):
    """{tag: pids} of those among ``pids`` that bear the mark of a run."""
    table = process_table()
    found: dict[str, list[int]] = {}
    for pid, tag in sorted(_marks(table, set(table) - set(pids)).items()):
        found.setdefault(tag, []).append(pid)
    return found


def kill_all(tag, below=None, meanwhile=lambda: None):
    """KILL until nothing of the run is left or it cannot be killed; what is left, by pid."""
    begun = time.monotonic()
    found: dict[int, int] = {}  # when each started: on its way out a process loses its mark before its memory
    while True:
        meanwhile()
        stats = ((pid, stat_of(pid)) for pid in run_processes(tag, below))
        found.update((pid, stat.started) for pid, stat in stats if stat is not None)
        left = sorted(pid for pid, started in found.items() if is_running(pid, started))
        dying = [pid for pid in left if send(pid, signal.SIGKILL) and not waits_in_kernel(pid)]
        if not left or time.monotonic() - begun > (DYING_TIMEOUT if dying else STUCK_TIMEOUT):
            return left
        time.sleep(TICK)


def waits_in_kernel(pid):
    """Whether one of its threads is in state D, in which no signal is taken."""
    return any(state == "D" for _, state in threads(pid))


def is_ending(pid):
    """Whether the kernel takes it apart: its environment may be gone, its working directory not yet."""
    try:
        with open("/proc/%d/stat" % pid, "rb") as stream:
            return bool(int(stream.read().rpartition(b")")[2].split()[6]) & _PF_EXITING)
    except OSError:
        return True


def command_of(pid):
    """The process's command line, shortened; its bare name where that is hidden, or where who asks for it
    could have to wait as well."""
    stat = stat_of(pid)
    asleep = stat is not None and stat.state == "D"
    for name in ("comm",) if asleep else ("cmdline", "comm"):
        try:
            with open("/proc/%d/%s" % (pid, name), "rb") as stream:
                text = stream.read().replace(b"\0", b" ").decode("utf-8", "replace").strip()
        except OSError:
            continue
        if text:
            return text[:120] + (" (waits in the kernel, state D)" if asleep else _owner_of(pid))
    return ""


def _owner_of(pid):
    """`` (of user 0)`` where that is not this one, who may not end it."""
    try:
        owner = os.stat("/proc/%d" % pid).st_uid
    except OSError:
        return ""
    return "" if owner == os.geteuid() else " (of user %d)" % owner


def _environ_of(pid):
    """That of a main thread is gone with it, those of others are not. Raises OSError."""
    try:
        with open("/proc/%d/environ" % pid, "rb") as stream:
            return stream.read().split(b"\0")
    except ProcessLookupError:
        living = [number for number, state in threads(pid) if state not in _DEAD]
        if not living:
            raise
        with open("/proc/%d/task/%d/environ" % (pid, living[0]), "rb") as stream:
            return stream.read().split(b"\0")


class _MarkReader(threading.Thread):
    """Reads environments one after another: that of a process in state D can block its reader for ever."""

    def __init__(self, pids):
        super().__init__(daemon=True)
        self.pids = pids
        self.position = 0
        self.found: dict[int, str] = {}
        self.given_up = False

    def waits_in_kernel(self):
        """One that is only slow does not: the host is busy, or all of this process stood still."""
        return dict(threads(os.getpid())).get(self.native_id) == "D"

    def run(self):
        for position, pid in enumerate(self.pids):
            self.position = position
            try:
                marks = [each for each in _environ_of(pid) if each.startswith(_MARK)]
            except OSError:
                continue
            if self.given_up:
                return
            if marks:
                self.found[pid] = marks[0][len(_MARK) :].decode("utf-8", "replace")


def _marks(table, known):
    """{pid: tag} of those that bear a run's mark, without those in ``known``. One that cannot be asked is
    asked again only when it is out of state D."""
    waiting = [
        pid
        for pid, stat in table.items()
        if pid not in known
        and stat.state not in _DEAD
        and not (stat.state == "D" and (pid, stat.started) in _unreadable)
    ]
    waiting.sort(key=lambda pid: table[pid].state == "D")
    found: dict[int, str] = {}
    while waiting:
        reader = _MarkReader(waiting)
        reader.start()
        before = -1
        while reader.is_alive() and not (reader.position == before and reader.waits_in_kernel()):
            before = reader.position
            reader.join(READ_TIMEOUT)
        if not reader.is_alive():
            return {**found, **reader.found}
        reader.given_up = True
        found.update(reader.found)
        stuck = waiting[reader.position]
        _unreadable.add((stuck, table[stuck].started))
        waiting = waiting[reader.position + 1 :]
    return found
