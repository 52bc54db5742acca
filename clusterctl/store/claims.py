"""Which process supervises a run: a claim names it for good, across machines and restarts of them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec
import psutil

from clusterctl.errors import ClusterctlError

_LOCK_TIMEOUT = 10.0
Verb = Literal["launch", "stop", "attach"]


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """The process that supervises a run. ``verb``: what it was started to do with it. ``lacks``: variables
    that it would need for another attempt, and does not know."""

    pid: int
    started: int | None
    host: str = ""
    boot: str = ""
    verb: Verb = "launch"
    lacks: tuple[str, ...] = ()


def own_claim(verb: Verb, pid: int | None = None, *, lacks: tuple[str, ...] = ()) -> Claim:
    """In the name of this process, or of another one of this machine, ``pid``."""
    pid = pid or os.getpid()
    return Claim(
        pid=pid,
        started=process_start(pid),
        host=socket.gethostname(),
        boot=boot_id(),
        verb=verb,
        lacks=lacks,
    )


def is_own(claim: Claim) -> bool:
    """Whether it names this process."""
    return is_here(claim) and claim.pid == os.getpid() and claim.started == process_start(claim.pid)


def is_here(claim: Claim) -> bool:
    """Whether it was made on this machine: home directories may be shared."""
    return claim.boot == boot_id() or claim.host in ("", socket.gethostname())


def is_alive(claim: Claim) -> bool:
    """Whether its process is; taken for alive on another machine."""
    if not is_here(claim):
        return True
    started = process_start(claim.pid)
    return claim.boot in ("", boot_id()) and started is not None and started == claim.started


def is_suspended(claim: Claim) -> bool:
    """Whether its process stands still (Ctrl-Z, SIGSTOP) on this machine."""
    if not is_here(claim) or not is_alive(claim):
        return False
    try:
        return bool(psutil.Process(claim.pid).status() == psutil.STATUS_STOPPED)
    except psutil.Error:
        return False


def wake(claim: Claim) -> bool:
    """Whether its process stood still here, and goes on now."""
    if not is_suspended(claim):
        return False
    try:
        psutil.Process(claim.pid).resume()
    except (psutil.Error, OSError):  # gone meanwhile, or another user's
        return False
    return True


def boot_id() -> str:
    """Names this machine from its last boot to its next; empty where the system tells no such name."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except FileNotFoundError:
        return ""


def process_start(pid: int) -> int | None:
    """Start time of a process in clock ticks since boot; with the pid it names one process for good.

    None when it is no more; a zombie is no more.
    """
    try:
        while True:
            boot = psutil.boot_time()
            process = psutil.Process(pid)
            if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
                return None
            # psutil counts from 1970: whoever sets the clock moves that, and the time of boot with it.
            since_boot = process.create_time() - boot
            if boot == psutil.boot_time():
                return round(since_boot * os.sysconf("SC_CLK_TCK"))
    except psutil.NoSuchProcess:
        return None


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """No other process makes a claim meanwhile. Raises ClusterctlError where one does not go on."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC
    lock = os.open(path, flags, 0o600)
    deadline = time.monotonic() + _LOCK_TIMEOUT
    try:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise ClusterctlError(
                        f"another clusterctl holds {path} and does not go on", hint=f"end it: fuser {path}"
                    ) from error
                time.sleep(0.05)
            except OSError:  # a file system without locks: as good as it gets
                break
        yield
    finally:
        os.close(lock)
