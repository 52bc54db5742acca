"""What is mounted here, and what of the kernel's own file systems this session sees."""

import os
import re
import stat

from ..shared.files import listing

SHARED = (
    "nfs", "lustre", "ceph", "gpfs", "beegfs", "glusterfs", "fuse.", "cifs", "smb", "afs", "virtiofs",
    "wekafs",
)  # fmt: skip
PRIVATE = ("username=", "password=", "domain=", "credentials=", "secret=", "name=")
NOTHING = {"source": "", "point": "", "kind": "", "options": []}


def table(text):
    """One dict for each line of /proc/mounts. A blank in a name is written ``\\040``."""
    found = []
    for line in text.splitlines():
        source, point, kind, options = [
            re.sub(r"\\([0-7]{3})", lambda code: chr(int(code.group(1), 8)), field)
            for field in (line.split() + [""] * 4)[:4]
        ]
        told = [each for each in options.split(",") if not each.startswith(PRIVATE)]
        found.append({"source": source, "point": point, "kind": kind, "options": told})
    return found


def of(real, mounted):
    """The mount that an absolute path without links lies in; of several at one place the last."""
    best = NOTHING
    for mount in mounted:
        point = mount["point"]
        inside = point == "/" or real == point or real.startswith(point + "/")
        if inside and len(point) >= len(best["point"]):
            best = mount
    return best


def shared(mount):
    return mount["kind"].startswith(SHARED)


def kernel(root=""):
    return {
        "sysfs": bool(listing(root + "/sys/class/net")) and os.path.isdir(root + "/sys/devices"),
        "hides_processes": not os.path.isdir(root + "/proc/1"),
        "exports": bool(listing(root + "/proc/fs/nfsd")),
        "null_device": _not_null(root + "/dev/null"),
    }


def _not_null(path):
    """What stands in the place of the null device, or "": `rm` as root, or a copy onto it, leaves a file."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return "missing"
    if stat.S_ISCHR(found.st_mode):
        return "" if os.access(path, os.R_OK | os.W_OK) else "closed to the user"
    return "a plain file of %d bytes" % found.st_size if stat.S_ISREG(found.st_mode) else "no device"
