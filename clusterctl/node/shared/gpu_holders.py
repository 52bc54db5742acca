"""Which processes hold GPU memory, as nvidia-smi lists them."""

from __future__ import annotations

import os
import subprocess
import time

from .files import which
from .processes import stat_of

PLACES = ":/usr/bin:/usr/local/bin:/bin:/usr/lib/wsl/lib"
TIMEOUT = 10.0
PAUSE = 0.2
_QUERY = ("--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits")


def tool(path):
    """Full path of nvidia-smi, or ""."""
    return which("nvidia-smi", path + PLACES)


def gpu_holders(smi, timeout=TIMEOUT):
    """{pid: MiB}; the figure is None where the driver does not tell it. None where it does not answer."""
    try:
        asked = subprocess.run(
            [smi, *_QUERY],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return held(asked.stdout) if asked.returncode == 0 else None


def held(text):
    """The answer: a line for each process and card."""
    found: dict[int, int | None] = {}
    for line in text.splitlines():
        pid, _, memory = (each.strip() for each in line.partition(","))
        if pid.isdigit():
            number, before = int(pid), found.get(int(pid))
            found[number] = before if not memory.isdigit() else (before or 0) + int(memory)
    return found


def gpu_memory(path=None):
    """`gpu_holders` of this machine; {} where it has no nvidia-smi or that does not answer."""
    smi = tool(os.environ.get("PATH", "") if path is None else path)
    return (gpu_holders(smi) or {}) if smi else {}


def still_held(pids, timeout, path=None):
    """{pid: MiB} of those of ``pids`` that have ended and yet hold GPU memory ``timeout`` seconds later: the
    driver gives it back a moment after their end, if it does. {} where nobody can tell."""
    smi = tool(os.environ.get("PATH", "") if path is None else path)
    deadline = time.monotonic() + timeout
    found: dict[int, int | None] = {}
    while smi and pids:
        left = deadline - time.monotonic()
        if left <= 0:
            return found
        holders = gpu_holders(smi, left)
        if holders is None:
            return {}
        found = {pid: memory for pid, memory in holders.items() if pid in pids and stat_of(pid) is None}
        if not found:
            return {}
        time.sleep(PAUSE)
    return {}
