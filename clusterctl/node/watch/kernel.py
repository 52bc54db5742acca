"""What the kernel says while the run lives: GPUs (Xid), kills for memory, disks, file servers, links.

Only lines that come after the start; each kind of trouble of one device is told once.
"""

from __future__ import annotations

import os
import re

from ..run.memory import kernel_log, pids_are_the_kernels

_RECORD = re.compile(r"^\d+,\d+,\d+,[^;]*;(.*)$")
# pattern, subject, sentence
_KINDS = (
    (r"NVRM: Xid \(PCI:([0-9a-fA-F:.]+)\): (\d+)(?:, (.*))?", "xid {0} {1}", "GPU {0}: Xid {1}: {2}"),
    (r"SXid \(PCI:([0-9a-fA-F:.]+)\): (\d+), (.*)", "sxid {0} {1}", "NVSwitch {0}: SXid {1}: {2}"),
    (r"(?:blk_update_request|critical \w+ error|I/O error).*?dev (\w+)", "io {0}", "disk {0}: {line}"),
    (r"(?:EXT4-fs error|EXT4-fs|XFS|BTRFS error) \((?:device )?(\w+)\): (.*(?:rror|orrupt|emount|hutting).*)",
     "fs {0}", "file system on {0}: {1}"),
    (r"nfs: server (\S+) not responding", "nfs {0}", "file server {0} does not respond"),
    (r"(\w+): (?:NIC )?[Ll]ink is [Dd]own", "link {0}", "link {0} is down"),
    (r"(mlx5_core \S+).*(?:Link down|link down|health compromised.*)", "link {0}", "{line}"),
    (r"(?:mce: )?\[Hardware Error\]: (.*)|Machine check events logged", "hardware", "hardware error: {line}"),
    (r"INFO: task (\S+) blocked for more than (\d+) seconds",
     "hung {0}", "task {0} waits in the kernel for more than {1} s"),
)  # fmt: skip
_COMPILED = [(re.compile(pattern), subject, text) for pattern, subject, text in _KINDS]
_KILLED = re.compile(
    r"(Memory cgroup out of memory|Out of memory).*?Killed process (\d+) \(([^)]*)\)(?:.*UID:(\d+))?"
)
MOST_LINES = 2000
LONGEST = 200


class KernelLog:
    """``log`` is a descriptor; -1 means the kernel's own."""

    def __init__(self, log=-1, own_pids=None):
        self._log = kernel_log() if log == -1 else log
        self._own_pids = pids_are_the_kernels() if own_pids is None else own_pids
        self._told: set[str] = set()
        self._said_unseen = False

    def look(self, teller, at_once):
        if self._log is None:
            if not self._said_unseen:
                self._said_unseen = True
                teller.tell(
                    "unseen",
                    "kernel log",
                    "the kernel's log is for root only: Xid, kills for memory and "
                    "disk errors are not watched",
                )
            return
        for line in self._lines():
            for subject, text in told_by(line, self._own_pids):
                if subject not in self._told:
                    self._told.add(subject)
                    teller.tell("kernel", subject, text)

    def _lines(self):
        for _ in range(MOST_LINES):
            try:
                record = os.read(self._log, 8192)
            except BrokenPipeError:
                continue  # lines were overwritten before we read them
            except OSError:  # EAGAIN: that was the last
                return
            if not record:
                return
            for line in record.decode("utf-8", "replace").splitlines():
                found = _RECORD.match(line)
                if found:
                    yield found.group(1)


def told_by(line, own_pids=True):
    """(subject, sentence) of one line's message; nothing for most lines."""
    killed = _KILLED.search(line)
    if killed:
        # Elsewhere pids are others', and so may the victim be.
        if own_pids and killed.group(4) in (None, str(os.getuid())):
            limit = (
                "a control group's memory limit" if killed.group(1).startswith("Memory") else "lack of memory"
            )
            yield (
                "oom " + killed.group(2),
                "killed process %s (%s) for %s" % (killed.group(2), killed.group(3), limit),
            )
        return
    for pattern, subject, text in _COMPILED:
        found = pattern.search(line)
        if found:
            groups = [group or "" for group in found.groups()]
            yield subject.format(*groups), text.format(*groups, line=line[:LONGEST]).rstrip(": ")[:LONGEST]
            return
