"""What runs on this node: the processes of a run are found by parentage and by the mark in their environment.

Never by name: a name also fits other people's jobs.
"""

import os


def process_table():
    """{pid: (parent pid, state, start ticks)} of everything this user can see."""
    table = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open("/proc/%s/stat" % entry, "rb") as stream:
                    fields = stream.read().rpartition(b")")[2].split()
            except OSError:
                continue
            table[int(entry)] = (int(fields[1]), fields[0].decode(), int(fields[19]))
    return table


def is_alive(pid):
    """Whether ``pid`` exists and is not a zombie."""
    return process_table().get(pid, (0, "Z", 0))[1] not in ("Z", "X")


def start_ticks(pid):
    """When ``pid`` started, in clock ticks since boot; with the pid it names one process for good."""
    return process_table()[pid][2]


def boot_id():
    """Names this machine from its last boot to its next."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as stream:
            return stream.read().strip()
    except OSError:
        return ""


def bears_mark(pid, mark):
    try:
        with open("/proc/%d/environ" % pid, "rb") as stream:
            return mark in stream.read().split(b"\0")
    except OSError:
        return False


def tag_of(run_id, node_rank):
    """The value of CLUSTERCTL_RUN in a node's processes. Hosts made of namespaces may share their processes,
    so the node is part of it."""
    return "%s/%d" % (run_id, node_rank)


def run_processes(tag, below=None):
    """Pids of a node's part of a run, less zombies: marked in their environment, or descended from one.

    ``below`` is the agent's own pid: orphans fall to it even when they have cleared their environment. It and
    the caller are never listed.
    """
    mark = ("CLUSTERCTL_RUN=" + tag).encode()
    table = process_table()
    found = {pid for pid in table if bears_mark(pid, mark)}
    roots = {below, os.getpid()}
    grew = True
    while grew:
        children = {pid for pid, (parent, _, _) in table.items() if parent in found or parent == below}
        grew = not children <= found
        found |= children
    return sorted(pid for pid in found - roots if table[pid][1] not in ("Z", "X"))


def command_of(pid):
    try:
        with open("/proc/%d/cmdline" % pid, "rb") as stream:
            return stream.read().replace(b"\0", b" ").decode("utf-8", "replace").strip()[:120]
    except OSError:
        return ""


def oom_kills():
    """How many processes the kernel has killed for memory since boot; None where it does not count."""
    try:
        with open("/proc/vmstat") as stream:
            counters = dict(line.split() for line in stream)
        return int(counters["oom_kill"])
    except (OSError, KeyError, ValueError):
        return None
