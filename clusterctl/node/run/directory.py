"""A run's directory on a node: what lies there, and how it is written so that a full disk stops nobody.

Relay, agent and rank waiters speak through these files only. Those that carry orders and reports are laid
out with the directory and written in place: a full disk refuses new bytes, not these. They are blank until
then. Reports are one JSON object each.
"""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import time

JOB = "job.json"
AGENT = "agent.json"  # pid, start time and boot of the agent
RELAY = "relay.json"  # pid and start of the relay that follows the run
LEASE = "lease"  # until when the agent may go on without a word
STOP = "stop.json"
CUTS = "cuts.json"  # what of which log is no longer there
ENTER = "enter.json"
EVENTS = "events.jsonl"
INPUT = "stdin"
INPUT_END = "stdin.end"
DUMPS = "dumps"  # what torch's flight recorder writes by itself, one file for each rank
BLANK_BYTES = 2048
EVENTS_BYTES = 64 * 1024
SCANT_BYTES = 4096
SOCKET_PATH = 108
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


def boottime():
    """Seconds since boot, sleep included: no clock change moves it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def start_of(rank):
    return "start-%d.json" % rank


def exit_of(rank):
    return "exit-%d.json" % rank


def error_of(rank):
    return "error-%d.json" % rank


def stacks_of(root):
    """Where the ranks of the run directory ``root`` let their stacks be read: sockets and files, by pid.

    In the run directory, or where the path of a socket would be longer than the kernel takes: in /tmp.
    """
    inside = os.path.join(root, "stacks")
    if len(os.fsencode(inside)) + len("/4194304.sock") < SOCKET_PATH:
        return inside
    return "/tmp/clusterctl-stacks-" + hashlib.sha256(os.fsencode(root)).hexdigest()[:16]


def own_folder(path):
    """Make it, for this user alone. Raises OSError where somebody else has made it."""
    os.makedirs(path, 0o700, exist_ok=True)
    if os.lstat(path).st_uid != os.getuid() or os.path.islink(path):
        raise OSError("%s belongs to somebody else" % path)


class NodeDirectory:
    """``part`` names it: the node rank, and from the second attempt on, which attempt. ``home`` is the
    directory of the first: what a script writes into its copy of the code lies there in every attempt."""

    def __init__(self, path):
        self.root = path
        self.part = os.path.basename(path)
        node_rank, dot, attempt = self.part.partition(".")
        self.home = os.path.join(os.path.dirname(path), node_rank)
        self._suffix = dot + attempt
        self.stacks = stacks_of(path)

    def path(self, name):
        return os.path.join(self.root, name)

    def log_of(self, rank):
        return "logs/rank-%d%s.log" % (rank, self._suffix)

    def metrics_of(self, rank):
        return "logs/metrics-%d%s.jsonl" % (rank, self._suffix)

    @property
    def samples(self):
        return "logs/samples%s.ndjson" % self._suffix

    @property
    def times(self):
        return "logs/times%s.ndjson" % self._suffix

    def dump_of(self, rank):
        return "logs/flight-%d%s.pickle" % (rank, self._suffix)

    @property
    def agent_log(self):
        return "logs/agent%s.log" % self._suffix

    def others(self):
        """The directories of this node's other attempts, as far as they are still there."""
        parent, node_rank = os.path.dirname(self.root), os.path.basename(self.home)
        names = os.listdir(parent) if os.path.isdir(parent) else []
        own = [name for name in names if name.partition(".")[0] == node_rank and name != self.part]
        return [NodeDirectory(os.path.join(parent, name)) for name in sorted(own)]

    def is_missing(self, name):
        """Removed, for certain: a file system that does not answer has lost nothing."""
        try:
            os.stat(self.path(name))
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:
            return False
        return False

    def read(self, name):
        """The file's value; None while it is missing, blank or half written."""
        try:
            with open(self.path(name)) as stream:
                return json.load(stream)
        except (OSError, ValueError):
            return None

    def write(self, name, value):
        """A new file, of which a reader sees all or nothing."""
        write_whole(self.path(name), value)

    def overwrite(self, name, value):
        """In place. Raises FileNotFoundError when nothing was laid out for it, or it has been removed."""
        text = json.dumps(value).encode()
        target = os.open(self.path(name), os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.pwrite(target, text.ljust(max(BLANK_BYTES, os.fstat(target).st_size)), 0)
        finally:
            os.close(target)

    def lay_out(self, ranks):
        """Everything that must be writable later, whatever becomes of the disk."""
        names = [AGENT, LEASE, STOP]
        self._fill(CUTS, BLANK_BYTES * (1 + len(ranks) // 16))
        for rank in ranks:
            names += [start_of(rank), exit_of(rank)]
        for name in names:
            self._fill(name, BLANK_BYTES)

    def _fill(self, name, size):
        target = os.open(self.path(name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.write(target, b" " * size)
        finally:
            os.close(target)

    def remove_stacks(self):
        """What no longer serves once the ranks have ended."""
        shutil.rmtree(self.stacks, ignore_errors=True)

    def remove(self, *names):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path(name))

    def append_log(self, name):
        """A descriptor for a log of this run."""
        return os.open(self.path(name), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def write_whole(path, value):
    """Write JSON so that a reader sees all of it or none."""
    partial = path + ".partial"
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
        json.dump(value, stream)
    os.replace(partial, path)


class EventLog:
    """``events.jsonl``, which only the agent writes: lines, then blanks for those that are still to come.

    What does not fit on a full disk after all waits, and goes first as soon as there is space.
    """

    def __init__(self, directory):
        self._target = os.open(directory.path(EVENTS), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._position = 0
        self._waiting = b""
        with contextlib.suppress(OSError):
            os.pwrite(self._target, b" " * EVENTS_BYTES, 0)

    def tell(self, event, **fields):
        self._waiting += json.dumps(dict(fields, event=event, time=time.time())).encode() + b"\n"
        self.flush()

    def flush(self):
        with contextlib.suppress(OSError):
            while self._waiting:
                written = os.pwrite(self._target, self._waiting, self._position)
                self._position += written
                self._waiting = self._waiting[written:]

    def close(self):
        """After the last event: the blanks go."""
        self.flush()
        os.ftruncate(self._target, self._position)
        os.close(self._target)


def full_disk(path):
    """``no space left on /home`` where nothing can be written below ``path``, else ""."""
    probe = os.path.join(path, ".clusterctl-space-%d" % os.getpid())
    try:
        target = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        return no_space(error, path)
    try:
        os.write(target, b" " * BLANK_BYTES)
        os.fsync(target)  # NFS refuses only then
    except OSError as error:
        return no_space(error, path)
    finally:
        os.close(target)
        os.unlink(probe)
    return ""


def no_blocks(path):
    """As `full_disk`, for a directory of the user's, where we write nothing."""
    try:
        found = os.statvfs(path)
    except OSError:
        return ""
    if found.f_blocks and found.f_bavail * found.f_frsize < SCANT_BYTES:
        return no_space(OSError(errno.ENOSPC, ""), path)
    return ""


def no_space(error, path):
    """The error as a sentence that names the file system, when it is a full one; else ""."""
    if error.errno not in DISK_FULL:
        return ""
    what = "no space left on" if error.errno == errno.ENOSPC else "the disk quota is used up on"
    return "%s %s (for %s)" % (what, mount_point(path), path)


def mount_point(path):
    path = os.path.realpath(path)
    while path != "/" and not os.path.ismount(path):
        path = os.path.dirname(path)
    return path
