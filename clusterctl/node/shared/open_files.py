"""Which files below a folder somebody has open or mapped."""

from __future__ import annotations

import contextlib
import os

from .processes import process_table

_DEAD = ("Z", "X")


def owner(pid):
    """User id; None where there is no such process."""
    try:
        return os.stat("/proc/%d" % pid).st_uid
    except OSError:
        return None


def opened(pid, folder):
    """Paths that a process has open or mapped. Raises OSError."""
    found = set()
    with open("/proc/%d/maps" % pid, errors="replace") as stream:
        for line in stream:
            words = line.rstrip("\n").split(None, 5)
            if len(words) == 6 and words[5].startswith(folder + "/"):
                found.add(words[5])
    for entry in os.listdir("/proc/%d/fd" % pid):
        with contextlib.suppress(FileNotFoundError):
            target = os.readlink("/proc/%d/fd/%s" % (pid, entry))
            if target.startswith(folder + "/"):
                found.add(target)
    return found


def opened_by_user(folder):
    """Paths that living processes of this user have open; None where one of them cannot be asked."""
    found = set()
    for pid, stat in process_table().items():
        if stat.state in _DEAD or owner(pid) != os.geteuid():
            continue
        try:
            found |= opened(pid, folder)
        except PermissionError:
            if pid != 1:  # an init that may more than we trains nothing
                return None
        except OSError:
            continue
    return found
