"""The first process of one host: it gives the host its own view of the machine, starts sshd, and reaps.

Standard library only; see `holder`, whose child it is.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from clusterctl.sandbox import kernel

_SSHD_TIMEOUT = 30.0
_POLL = 0.004
_LOOK_EVERY = 5.0
_MANY = 4096
_LISTEN = "0A"

SCRATCH = (("tmp", "/tmp"), ("var-tmp", "/var/tmp"))
"""Directories each host has for itself: below the host's own directory, and where it sees them."""

HIDDEN = ("/tmp", "/var/tmp", "/run", "/dev/shm")
"""What the user has below these is not seen on a host unless it is named in the plan's ``keep``."""


def tell(line: socket.socket, message: dict[str, Any]) -> None:
    """One JSON line to the holder."""
    line.sendall(json.dumps(message).encode() + b"\n")


def run(plan: dict[str, Any], host: dict[str, Any], line: socket.socket) -> NoReturn:
    """Become the host's init. Ends only with the host."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    try:
        tell(line, {"pid": int(Path("/proc/self").readlink().name)})
        os.sched_setaffinity(0, host["cores"])
        _own_view(plan, host)
        kernel.sethostname(host["name"])
        if not line.recv(8):
            os._exit(1)
        _own_network(plan, host)
        _start_sshd(plan, host)
    except OSError as error:
        tell(line, {"error": str(error)})
        os._exit(1)
    tell(line, {"ready": True})
    line.close()
    os.closerange(3, _MANY)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    while True:
        reap_while(lambda: True)


def reap_while(wanted: Callable[[], bool]) -> None:
    """Wait for children, also those that lost their parents, for as long as ``wanted`` says so."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    while wanted():
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                continue
        signal.sigtimedwait({signal.SIGCHLD}, _LOOK_EVERY)


def _own_view(plan: dict[str, Any], host: dict[str, Any]) -> None:
    root = Path(host["directory"])
    safe = kernel.MS_NOSUID | kernel.MS_NODEV
    kernel.mount("proc", "/proc", "proc", safe | kernel.MS_NOEXEC)
    # Opened before their parents are hidden; bound back afterwards.
    kept = [(path, os.open(path, os.O_PATH)) for path in plan["keep"]]
    home = os.open(root / "home", os.O_PATH)
    binds = [(os.open(source, os.O_PATH), target) for source, target in host["binds"]]
    scratch = [(os.open(root / own, os.O_PATH), seen) for own, seen in SCRATCH if Path(seen).is_dir()]
    _own_sys(root)
    kernel.mount("shm", "/dev/shm", "tmpfs", safe, "mode=1777")
    kernel.mount("devpts", "/dev/pts", "devpts", kernel.MS_NOSUID, "newinstance,ptmxmode=0666,mode=0620")
    if not Path("/dev/ptmx").is_symlink():
        kernel.bind("/dev/pts/ptmx", "/dev/ptmx")
    for descriptor, target in scratch:
        kernel.bind(f"/proc/self/fd/{descriptor}", target)
    kernel.mount("run", "/run", "tmpfs", safe, "mode=755")
    for name, mode in (("sshd", 0o755), ("lock", 0o1777)):
        Path("/run", name).mkdir()
        Path("/run", name).chmod(mode)
    for path, descriptor in kept:
        Path(path).mkdir(parents=True, exist_ok=True)
        kernel.bind(f"/proc/self/fd/{descriptor}", path, recursive=True)
    kernel.bind(f"/proc/self/fd/{home}", plan["home"])
    for descriptor, target in binds:
        if Path(target).exists():
            kernel.bind(f"/proc/self/fd/{descriptor}", target)
    for descriptor in (home, *(d for _, d in kept), *(d for d, _ in binds + scratch)):
        os.close(descriptor)


def _own_sys(root: Path) -> None:
    """A fresh sysfs shows this host's network cards; the control groups of the machine stay as they are."""
    fresh = root / "sys"
    kernel.mount("sysfs", str(fresh), "sysfs", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
    if Path("/sys/fs/cgroup").is_dir():
        kernel.bind("/sys/fs/cgroup", str(fresh / "fs/cgroup"), recursive=True)
    kernel.bind(str(fresh), "/sys", recursive=True)


def _own_network(plan: dict[str, Any], host: dict[str, Any]) -> None:
    # Without it an ordinary user's sshd could not listen on port 22, nor anybody ping.
    Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").write_text("0", encoding="ascii")
    kernel.configure_interface("lo", "127.0.0.1", 8, None)
    for nic in host["nics"]:
        kernel.configure_interface(nic["name"], nic["address"], nic["prefix"], nic["mtu"])
        for address, mac in plan["neighbours"].get(nic["network"], ()):
            if address != nic["address"]:
                kernel.add_neighbour(nic["name"], address, mac)


def _start_sshd(plan: dict[str, Any], host: dict[str, Any]) -> None:
    child = os.fork()
    if child == 0:
        _become_sshd(plan, host)
    deadline = time.monotonic() + _SSHD_TIMEOUT
    while not _listens(host["port"]):
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended or time.monotonic() > deadline:
            why = f"ended with {os.waitstatus_to_exitcode(status)}" if ended else "does not listen"
            log = Path(host["directory"], "sshd.log")
            said = log.read_text(errors="replace").strip()[-600:] if log.exists() else ""
            raise OSError(f"sshd {why}: {said or 'it left no message'}")
        time.sleep(_POLL)


def _become_sshd(plan: dict[str, Any], host: dict[str, Any]) -> NoReturn:
    try:
        os.setsid()
        if plan["uid"] != os.getuid():
            # Root of a namespace with one user cannot separate privileges; the plain user need not.
            own = (os.getuid(), os.getgid())
            kernel.unshare(kernel.NEW_USER)
            kernel.map_one_user(plan["uid"], plan["gid"], *own)
        os.chdir("/")
        signal.pthread_sigmask(signal.SIG_SETMASK, set())
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        argv: list[str] = [*host["sshd"], "-D"]
        os.execve(argv[0], argv, plan["sshd_env"])
    finally:
        os._exit(127)


def _listens(port: int) -> bool:
    wanted = f":{port:04X}"
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        if not Path(table).exists():
            continue
        for row in Path(table).read_text(encoding="ascii").splitlines()[1:]:
            fields = row.split()
            if fields[1].endswith(wanted) and fields[3] == _LISTEN:
                return True
    return False
