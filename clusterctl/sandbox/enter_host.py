"""Runs a command inside the namespaces of a host: ``helper.py enter_host '{"pid": ..., "argv": [...]}'``.

Standard library only. The process is found by pid and start time, so a pid that was given to somebody
else since then is never entered.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clusterctl.sandbox import kernel

GONE = 125
_ALL = (
    ("net", kernel.NEW_NET),
    ("uts", kernel.NEW_UTS),
    ("ipc", kernel.NEW_IPC),
    ("pid", kernel.NEW_PID),
    ("mnt", kernel.NEW_NS),
)


def main(arguments: Sequence[str]) -> int:
    """Enter, run, and return the command's status (128+n for a signal, 125 when the host is gone)."""
    order: dict[str, Any] = json.loads(arguments[0])
    pid, start = int(order["pid"]), int(order["start"])
    outer = (os.getuid(), os.getgid())
    try:
        if kernel.start_time(pid) != start:
            raise ProcessLookupError(f"process {pid} is another one by now")
        join(pid, network_only=bool(order.get("network_only")))
    except OSError as error:
        sys.stderr.write(f"sandbox: the host is gone: {error}\n")
        return GONE
    child = os.fork()
    if child == 0:
        _become(order, outer)
    return _wait_for(child)


def join(pid: int, *, network_only: bool) -> None:
    """Move this process into the namespaces of ``pid``; its children also into the pid namespace."""
    wanted = _ALL[:1] if network_only else _ALL
    user = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY)
    others = [(os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY), flag) for name, flag in wanted]
    if Path(f"/proc/{pid}/ns/user").readlink() != Path("/proc/self/ns/user").readlink():
        kernel.setns(user, kernel.NEW_USER)
    for descriptor, flag in others:
        kernel.setns(descriptor, flag)
        os.close(descriptor)
    os.close(user)


def _become(order: dict[str, Any], outer: tuple[int, int]) -> None:
    try:
        if order.get("as_user") and os.getuid() != outer[0]:
            # Inside its own namespace the user is root; a session has to be the plain user again.
            own = (os.getuid(), os.getgid())
            kernel.unshare(kernel.NEW_USER)
            kernel.map_one_user(*outer, *own)
        # A caller that gives up kills this program's parent, never what lives behind it.
        kernel.die_with_parent()
        os.chdir(order.get("cwd") or "/")
        environment: dict[str, str] = order["env"]
        argv: list[str] = order["argv"]
        os.environ.clear()
        os.environ.update(environment)
        # Python ignores SIGPIPE; what it starts should not.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.execvp(argv[0], argv)
    except OSError as error:
        sys.stderr.write(f"sandbox: {order['argv'][0]}: {error}\n")
        sys.stderr.flush()
        os._exit(127)


def _wait_for(child: int) -> int:
    def pass_on(number: int, _frame: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, pass_on)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code
