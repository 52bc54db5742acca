"""`up`'s side of the exchange with a sandbox's first process, and its end."""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from clusterctl.errors import ClusterctlError
from clusterctl.sandbox.files import helper
from clusterctl.sandbox.state import Mode, Places, ProcessId, identity
from clusterctl.settings import SANDBOX

_LAST_RESORT = "where that is not possible: `clusterctl sandbox up --loopback`"
_REFUSED_HINT = (
    "run it as root, or allow user namespaces (`sysctl -w kernel.unprivileged_userns_clone=1`; on Ubuntu "
    f"24.04 `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`); {_LAST_RESORT}"
)
_REFUSED_ROOT_HINT = f"in a container start it with --privileged; {_LAST_RESORT}"


def build(
    mode: Mode, places: Places, record: Callable[[ProcessId], dict[str, Any]]
) -> tuple[ProcessId, dict[str, int]]:
    """Start the holder and have it build the hosts. Returns it and each host's first process, by name.

    ``record`` is called with the holder's identity before anything is built, and returns the plan.
    Raises ClusterctlError with the kernel's own reason.
    """
    deadline = time.monotonic() + SANDBOX.up_timeout
    log = places.holder_log
    with log.open("wb") as errors:
        process = subprocess.Popen(
            # The directory is for people who read `ps`.
            [*helper("holder"), mode, str(places.directory)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}, cwd="/", start_new_session=True,
        )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None
    with process.stdin, process.stdout:
        hello = _hear(process.stdout.fileno(), deadline, log)
        process.wait()
        holder = identity(hello["pid"])
        plan = record(holder)
        process.stdin.write(json.dumps(plan).encode() + b"\n")
        process.stdin.flush()
        answer = _hear(process.stdout.fileno(), deadline, log)
    return holder, {host["name"]: host["pid"] for host in answer["hosts"]}


def _hear(descriptor: int, deadline: float, log: Path) -> dict[str, Any]:
    text = b""
    while not text.endswith(b"\n"):
        ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise ClusterctlError("the sandbox's hosts did not come up in time", hint=f"see {log}")
        data = os.read(descriptor, 1 << 16)
        if not data:
            said = log.read_text(errors="replace").strip().splitlines()
            raise ClusterctlError(f"the sandbox's first process ended: {said[-1] if said else 'no message'}")
        text += data
    answer: dict[str, Any] = json.loads(text)
    if "error" in answer:
        refused = any(word in answer["error"] for word in ("not permitted", "Permission denied", "refuses"))
        hint = _REFUSED_HINT if os.geteuid() else _REFUSED_ROOT_HINT
        raise ClusterctlError(answer["error"], hint=hint if refused else "")
    return answer


def end(process: ProcessId) -> None:
    """Kill exactly this process and wait until it, and all that live in its pid namespace, are gone."""
    try:
        # Taken before the look at the start time: from here on psutil means this process or none.
        found = psutil.Process(process.pid)
        if process.alive:
            found.kill()
            found.wait(SANDBOX.down_timeout)
    except psutil.NoSuchProcess:
        return
    except psutil.TimeoutExpired as error:
        raise ClusterctlError(
            f"process {process.pid} of the sandbox does not end", hint="try `down` again"
        ) from error
