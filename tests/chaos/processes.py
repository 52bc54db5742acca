"""The processes of a host, or of the controlling machine, and which of them plays which part in a run."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

_ROLES = {
    "rank": r"(cheap|ddp)\.py",
    "waiter": r"(run|code)/rank\.py",
    "engine": r"-m (torch\.distributed\.run|deepspeed\.launcher\.launch)|bin/deepspeed ",
    "agent": r"clusterctl_node\.run\.agent|code/agent\.py",
    "observer": r"code/observer\.py",
    "watcher": r"code/watches\.py",
    "relay": r"import sys;b=sys\.stdin",
    "sshd": r"^sshd: .*@|^sshd: .*\[priv\]|\[listener\]",
    "session": r"^sshd: .*@|^sshd: .*\[priv\]",
    "controller": r"-m clusterctl[. ]",
}


@dataclass
class Process:
    """A process of a host, by its pid in the campaign's namespace."""

    pid: int
    parent: int
    command: str
    environment: dict[str, str]
    host: str

    def send(self, number: int) -> None:
        os.kill(self.pid, number)


def processes_of(first: int, host: str) -> list[Process]:
    """All in the pid namespace of process ``first``, but zombies."""
    own = Path(f"/proc/{first}/ns/pid").stat().st_ino
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "ns/pid").stat().st_ino != own:
                continue
            fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
            command = (entry / "cmdline").read_text(errors="replace").replace("\0", " ")
            raw = (entry / "environ").read_text(errors="replace")
        except OSError:
            continue
        environment = dict(part.split("=", 1) for part in raw.split("\0") if "=" in part)
        if fields[0] not in "ZX":
            found.append(Process(int(entry.name), int(fields[1]), command.strip(), environment, host))
    return found


def find(processes: list[Process], what: str, rank: int | None = None) -> list[Process]:
    """The processes of a role."""
    found = [each for each in processes if re.search(_ROLES[what], each.command)]
    if what == "waiter":
        found = [each for each in found if not re.search(_ROLES["engine"], each.command)]
    if what == "engine":  # what DeepSpeed's launcher started over pdsh only waits for it
        found = [each for each in found if not re.search(r"code/enter\.py", each.command)]
    if what == "relay":
        found = [each for each in found if not each.command.startswith("/bin/sh")]
    if rank is not None:
        found = [each for each in found if each.environment.get("RANK") == str(rank)]
    return found
