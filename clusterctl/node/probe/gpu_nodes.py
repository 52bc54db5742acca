"""NVIDIA's device nodes and the processes that hold them, as this user may see them."""

import os
import re

from ..shared.files import listing, owner_of, read

NODES = re.compile(r"nvidia(\d+|ctl|-uvm)$")
KILLED = 1 << 8
"""SIGKILL in the masks of /proc/PID/status."""


def closed(root="/dev"):
    """The nodes that are there and not for this user: (path, group that owns it)."""
    return [
        {"path": "%s/%s" % (root, name), "group": _group("%s/%s" % (root, name))}
        for name in listing(root)
        if NODES.match(name) and not os.access("%s/%s" % (root, name), os.R_OK | os.W_OK)
    ]


def count(root="/dev"):
    """How many cards have a node, whoever may open it."""
    return sum(name[len("nvidia") :].isdigit() for name in listing(root) if NODES.match(name))


def _group(path):
    """Its name where the group may read and write, else ""."""
    import grp

    try:
        status = os.stat(path)
        return grp.getgrgid(status.st_gid).gr_name if status.st_mode & 0o060 == 0o060 else ""
    except (OSError, KeyError):
        return ""


def soc(root=""):
    """The model of a machine whose GPU is part of its processor, as Jetson's; "" elsewhere."""
    model = read(root + "/proc/device-tree/model").strip("\0\n ")
    compatible = read(root + "/proc/device-tree/compatible")
    return model if "nvidia,tegra" in compatible else ""


def stuck(holders, root="/proc"):
    """Processes on the cards that have been killed and do not end, of ``holders`` and of what else is seen to
    have a node open: nothing but a reset takes the memory from them."""
    found = []
    for name in listing(root):
        if not name.isdigit():
            continue
        state = _state("%s/%s" % (root, name))
        if state and (int(name) in holders or _holds("%s/%s" % (root, name))):
            user, command = owner_of(int(name))
            found.append({"pid": int(name), "user": user, "command": command[:120], "state": state})
    return found


def _state(process):
    """``zombie``, ``killed``, or "" for a process that lives as it should."""
    fields = read(process + "/stat").rpartition(")")[2].split()
    if not fields or fields[0] not in "DZ":
        return ""
    if fields[0] == "Z":  # its threads may live on
        return "zombie"
    masks = re.findall(r"^(?:SigPnd|ShdPnd):\s*([0-9a-f]+)", read(process + "/status"), re.MULTILINE)
    return "killed" if any(int(mask, 16) & KILLED for mask in masks) else ""


def _holds(process):
    """Whether it has one of the nodes open; what others hold is not shown to us."""
    for descriptor in listing(process + "/fd"):
        try:
            if NODES.match(os.path.basename(os.readlink("%s/fd/%s" % (process, descriptor)))):
                return True
        except OSError:
            continue
    return False
