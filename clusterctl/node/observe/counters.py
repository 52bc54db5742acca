"""What the kernel counts of a process: CPU, page faults, disk. One read each, none of which waits for it."""

from __future__ import annotations

import collections
import os

from ..shared.files import listing, read

_TICK = os.sysconf("SC_CLK_TCK")

Use = collections.namedtuple("Use", "cpu faults major_faults")
Use.__doc__ = """Seconds of CPU, and pages it touched first, of a process and its children that have ended.
``major_faults``, its own, are pages it had to wait for."""
Io = collections.namedtuple("Io", "moved read written copied")
Io.__doc__ = """``moved``: bytes of all its reads and writes, other than to sockets. ``read`` and ``written``:
those of a disk. ``copied``: those of its writes, and be it to a file in memory."""


def use_of(pid):
    """None where there is no such process."""
    try:
        with open("/proc/%d/stat" % pid, "rb") as stream:
            fields = stream.read().rpartition(b")")[2].split()
    except OSError:
        return None
    number = [int(each) for each in fields[4:15]]
    faults, children_faults, major = number[3], number[4], number[5]
    cpu = int(fields[11]) + int(fields[12]) + int(fields[13]) + int(fields[14])
    return Use(cpu / _TICK, faults + children_faults, major)


def io_of(pid):
    """None where it cannot be read."""
    try:
        with open("/proc/%d/io" % pid) as stream:
            told = dict(line.split(": ") for line in stream.read().splitlines())
        copied = int(told["wchar"])
        return Io(int(told["rchar"]) + copied, int(told["read_bytes"]), int(told["write_bytes"]), copied)
    except (OSError, ValueError, KeyError):
        return None


def name_of(pid):
    """Its bare name, which never waits for anything; "" where there is no such process."""
    return read("/proc/%d/comm" % pid)


def wchan_of(pid):
    """In which function of the kernel it waits; "" where it does not, or that is not told."""
    told = read("/proc/%d/wchan" % pid)
    return "" if told == "0" else told


def swapped():
    """Pages that went to and came from swap since boot; None where the kernel does not tell."""
    try:
        with open("/proc/vmstat") as stream:
            told = dict(line.split() for line in stream if line.startswith("pswp"))
        return int(told["pswpin"]) + int(told["pswpout"])
    except (OSError, ValueError, KeyError):
        return None


def rdma_bytes():
    """Through all RDMA ports of this host, in and out; None without any."""
    found = rdma_traffic()
    return None if found is None else sum(found)


def rdma_traffic(root="/sys/class/infiniband"):
    """(received, sent) through all RDMA ports of this host; None without any."""
    total = None
    for folder in _folders(root):
        for port in _folders(os.path.join(folder, "ports")):
            names = ("port_rcv_data", "port_xmit_data")
            told = [read(os.path.join(port, "counters", name)) for name in names]
            if any(each.isdigit() for each in told):
                received, sent = (4 * int(each) if each.isdigit() else 0 for each in told)  # told in words
                before = total or (0, 0)
                total = (before[0] + received, before[1] + sent)
    return total


def _folders(path):
    return [os.path.join(path, name) for name in listing(path)]
