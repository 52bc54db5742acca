"""Finds, and ends, what is left on this node of runs that nobody looks after any more.

A run is looked after on a node while its agent lives there and its lease is not long over: all that it has
started descends from that agent, because orphans fall to it. So what bears a run's mark without such an agent
is left over, whoever started it and from wherever. Everything else of this user is let alone.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
import shutil
import time

from .run.agent_process import AgentProcess
from .run.directory import AGENT, INPUT, INPUT_END, JOB, LEASE, NodeDirectory, boottime
from .run.strays import strays
from .shared.files import read
from .shared.gpu_holders import gpu_memory
from .shared.open_files import opened_by_user, owner
from .shared.processes import boot_id, command_of, environ_marks, kill_all, process_table, run_processes
from .shared.wire import emit, sendable

TAG = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,100}/[0-9]{1,6}(\.[0-9]{1,6})?")
# What others call clusterctl-something in /tmp is none of ours.
RUN = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{4}")
# An agent whose lease is over stops its ranks within their grace, and then is gone.
LEASE_GRACE = 120.0
# Of a directory whose agent is of another boot, or another host on a shared home, only time tells.
LONGEST_LEASE = 25 * 3600.0
YOUNG = 60.0
TMP = "/tmp"
SHM = "/dev/shm"
SHM_NAMES = ("torch_", "sem.", "nccl-")


class Node:
    """What is here, at one moment."""

    def __init__(self, home, runs=()):
        self.home = home
        self.runs = set(runs)  # none: all
        self.table = process_table()
        self.mine = {pid for pid in self.table if owner(pid) == os.geteuid()}
        self.agents = {}  # tag -> (pid, run directory) of agents that live
        for pid in self.mine:
            root = agent_root(pid)
            if root:
                self.agents["/".join(root.split("/")[-2:])] = (pid, root)
        self.tags = {
            tag: [pid for pid in pids if self.table[pid].state not in ("Z", "X")]
            for tag, pids in environ_marks(self.mine).items()
            if TAG.fullmatch(tag)
        }

    def is_asked_for(self, tag):
        return not self.runs or tag.split("/")[0] in self.runs

    def is_looked_after(self, tag):
        if tag not in self.agents:
            return False
        _, root = self.agents[tag]
        lease = NodeDirectory(root).read(LEASE)
        return lease is None or boottime() < lease["until"] + LEASE_GRACE

    def left(self):
        """{tag: pids} of what nobody looks after; an agent that stands still is among them."""
        found = {}
        for tag in sorted({*self.tags, *self.agents}):
            if self.is_asked_for(tag) and not self.is_looked_after(tag):
                agent = [self.agents[tag][0]] if tag in self.agents else []
                pids = [pid for pid in (*agent, *self.tags.get(tag, ())) if pid != os.getpid()]
                if pids:
                    found[tag] = pids
        return found

    def living(self):
        """{run: number of processes} of those that are let alone."""
        found: dict[str, int] = {}
        for tag in sorted({*self.tags, *self.agents}):
            if self.is_looked_after(tag):
                run = tag.split("/")[0]
                found[run] = found.get(run, 0) + len(self.tags.get(tag, ()))
        return found

    def strays(self):
        """Messages about what works in a run's directory without a mark, beside all agents."""
        agents = {pid for pid, _ in self.agents.values()}
        home = os.path.realpath(self.home)
        for pid, place in strays(home, agents).items():
            run = os.path.relpath(place, home).split("/")[0]
            if self.is_asked_for(run + "/0"):
                command = sendable(command_of(pid))
                yield {"is": "stray", "run": sendable(run), "pid": pid, "command": command}

    def is_over(self, tag):
        """Whether nothing of this part lives, here or on another host that shares this home."""
        if tag in self.agents or self.tags.get(tag):
            return tag in self.left()
        directory = NodeDirectory(os.path.join(self.home, *tag.split("/")))
        agent = directory.read(AGENT)
        if agent is not None and agent.get("boot") == boot_id():
            return True
        try:
            return time.time() - os.stat(directory.path(LEASE)).st_mtime > LONGEST_LEASE
        except FileNotFoundError:
            return True
        except OSError:
            return False

    def files(self):
        """Messages about what lies there of runs that are over."""
        for root in sorted(glob.glob(os.path.join(self.home, "*", "[0-9]*"))):
            tag = "/".join(root.split("/")[-2:])
            directory = NodeDirectory(root)
            names = [name for name in (JOB, INPUT, INPUT_END) if not directory.is_missing(name)]
            folder = directory.stacks if is_own_folder(directory.stacks) else ""
            if (names or folder) and TAG.fullmatch(tag) and self.is_asked_for(tag) and self.is_over(tag):
                for name in names:
                    yield file_message("job", directory.path(name), tag.split("/")[0])
                if folder:
                    yield file_message("folder", folder, tag.split("/")[0])
        for path in sorted(glob.glob(TMP + "/clusterctl-*")):
            run = self.run_of_folder(path)
            if run and self.is_asked_for(run + "/0") and not self.is_known(run):
                yield file_message("folder", path, run)

    def run_of_folder(self, path):
        """The run that a folder in /tmp is of: `enter`, logs, or what it compiled; "" for anything else."""
        run = name = os.path.basename(path)[len("clusterctl-") :]
        if name.startswith("logs-"):
            run = re.sub(r"-[0-9.]+$", "", name[len("logs-") :])
        elif name.startswith("caches-"):
            run = name[len("caches-") :].rpartition(".")[0]
        try:
            stat = os.lstat(path)
        except OSError:
            return ""
        old = time.time() - stat.st_mtime > YOUNG
        return run if is_own_folder(path) and old and RUN.fullmatch(run) else ""

    def is_known(self, run):
        """Whether a part of it is here, or may be on a host that shares this home."""
        parts = {tag for tag in {*self.tags, *self.agents} if tag.startswith(run + "/")}
        parts |= {"/".join(p.split("/")[-2:]) for p in glob.glob(os.path.join(self.home, run, "[0-9]*"))}
        return any(not self.is_over(tag) for tag in parts if TAG.fullmatch(tag)) or any(
            os.path.islink(os.path.join(self.home, tag, "logs")) for tag in parts
        )

    def shared_memory(self):
        """Messages about shared memory of this user that no living process has open; none where it cannot be
        told of one of this user's processes."""
        if self.runs:
            return
        in_use = opened_by_user(SHM)
        if in_use is None:
            return
        for name in sorted(os.listdir(SHM)) if os.path.isdir(SHM) else ():
            path = os.path.join(SHM, name)
            with contextlib.suppress(OSError):
                stat = os.lstat(path)
                ours = stat.st_uid == os.geteuid() and name.startswith(SHM_NAMES) and not os.path.islink(path)
                if ours and path not in in_use and time.time() - stat.st_mtime > YOUNG:
                    yield file_message("shm", path)


def agent_root(pid):
    """The run directory of an agent; "" for every other process."""
    words = read("/proc/%d/cmdline" % pid).split("\0")
    words = [word for word in words if word]
    root = words[-1] if len(words) > 1 else ""
    is_agent = root.startswith("/") and words[-2] == root + "/code/agent.py"
    return root if is_agent and TAG.fullmatch("/".join(root.split("/")[-2:])) else ""


def is_own_folder(path):
    return os.path.isdir(path) and not os.path.islink(path) and owner_of(path) == os.geteuid()


def owner_of(path):
    try:
        return os.lstat(path).st_uid
    except OSError:
        return None


def file_message(kind, path, run=""):
    size = 0
    with contextlib.suppress(OSError):
        size = os.lstat(path).st_blocks * 512
    return {"is": "file", "kind": kind, "path": sendable(path), "run": run, "bytes": size}


def process_message(pid, tag, stat, gpu):
    run, part = tag.split("/")
    btime = re.search(r"^btime (\d+)", read("/proc/stat"), re.MULTILINE)
    since = int(btime.group(1)) + stat.started / os.sysconf("SC_CLK_TCK") if btime else None
    pages = read("/proc/%d/statm" % pid).split()
    return {
        "is": "process",
        "run": run,
        "part": part,
        "pid": pid,
        "rank": rank_of(pid),
        "since": since,
        "memory": int(pages[1]) * os.sysconf("SC_PAGE_SIZE") if len(pages) > 1 else 0,
        "gpu": gpu.get(pid),
        "command": sendable(command_of(pid)),
    }


def rank_of(pid):
    found = re.search(r"(?:^|\0)RANK=([0-9]{1,6})(?:\0|$)", read("/proc/%d/environ" % pid))
    return int(found.group(1)) if found else None


def end(tag, node):
    """Everything of this part, its agent too where that stands still. How many processes are left."""
    if tag in node.agents:
        directory = NodeDirectory(node.agents[tag][1])
        agent = AgentProcess(directory, tag)
        agent.attach()
        return len(agent.replace())
    kill_all(tag)
    return len(run_processes(tag))


def remove(message):
    """Why it could not be; "" when it is gone."""
    path = message["path"]
    try:
        if message["kind"] == "folder":
            shutil.rmtree(path)
        else:
            os.unlink(path)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return "%s: %s" % (path, error.strerror or error)
    return ""


def main(request, files):
    home = os.path.join(os.path.expanduser("~"), ".clusterctl", "node")
    if request["end"] is None:
        return look(Node(home, request["runs"]), request["shm"])
    left, unremoved = 0, []
    node = Node(home, request["runs"])
    for tag in node.left():
        if tag in request["end"]:
            left += end(tag, node)
    node = Node(home, request["runs"])
    for message in (*node.files(), *(node.shared_memory() if request["shm"] else ())):
        if message["path"] in request["files"]:
            unremoved.append(remove(message))
    emit({"is": "done", "left": left, "unremoved": [sendable(why) for why in unremoved if why]})
    return 0


def look(node, shm):
    left = node.left()
    gpu = gpu_memory() if left else {}
    for tag, pids in left.items():
        for pid in pids:
            emit(process_message(pid, tag, node.table[pid], gpu))
    for message in (*node.strays(), *node.files(), *(node.shared_memory() if shm else ())):
        emit(message)
    for run, count in node.living().items():
        emit({"is": "living", "run": run, "processes": count})
    emit({"is": "done"})
    return 0
