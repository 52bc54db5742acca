"""Locks that runs of any user on this host share, as files in /tmp.

A lock file may have been put there by anybody: what is not an ordinary file is refused, never waited for, and
the text in it is shown only harmlessly.
"""

import fcntl
import os
import stat

_OPEN = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_TEXT = 200


def host_mark():
    """What tells this host from others that share one /tmp: those made of namespaces by the network's, and
    those of a sandbox without namespaces by the loopback address that sshd was reached at."""
    network = str(os.stat("/proc/self/ns/net").st_ino)
    reached_at = os.environ.get("SSH_CONNECTION", "").split()[2:3]
    return "-".join([network] + [each for each in reached_at if each.startswith("127.")])


def open_lock(path):
    """A descriptor of the lock file, made if need be, for every user of this host. Raises OSError."""
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            raise OSError("%s is not an ordinary file: somebody put something else in its place" % path)
        create = 0
    except FileNotFoundError:
        create = os.O_CREAT  # only then: in a sticky /tmp it is refused for another's file
    try:
        lock = os.open(path, os.O_RDWR | create | _OPEN, 0o666)
    except PermissionError:
        lock = os.open(path, os.O_RDONLY | _OPEN)
    if not stat.S_ISREG(os.fstat(lock).st_mode):
        os.close(lock)
        raise OSError("%s is not an ordinary file" % path)
    if create:
        os.fchmod(lock, 0o666)  # whatever the umask: the next user locks it, too
    return lock


def try_lock(lock):
    """Whether the lock is ours now; it is until the last copy of the descriptor is closed."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def text_of(lock):
    """What its holder wrote, in lines, without anything a terminal could obey."""
    text = os.pread(lock, _TEXT, 0).decode("utf-8", "replace")
    return "".join(each if each.isprintable() or each == "\n" else "?" for each in text.strip())
