"""Opens channels on many hosts at once, no more than a window of them at a time."""

from __future__ import annotations

import contextlib
import queue
import resource
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from clusterctl.errors import UsageError
from clusterctl.transport.protocol import Channel, Failure

Opened = Channel | Failure
_SPARE = 64
"""Descriptors for everything else: logs, pipes of helpers, the terminal."""


def open_window(
    open_one: Callable[[str], Opened], hosts: Sequence[str], window: int
) -> Iterator[tuple[str, Opened]]:
    """Yield (host, channel or failure) as they complete. Ending the iteration drops hosts not begun and
    closes channels that come too late."""
    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[str, Opened | BaseException]] = queue.SimpleQueue()
    abandoned = threading.Event()
    for host in hosts:
        waiting.put(host)

    def work() -> None:
        while not abandoned.is_set():
            try:
                host = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                opened: Opened | BaseException = open_one(host)
            except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
                opened = error
            done.put((host, opened))
            if abandoned.is_set():
                close_late()

    def close_late() -> None:
        """Whoever comes when nobody listens any more, in whatever order the two happen."""
        with contextlib.suppress(queue.Empty):
            while True:
                _, late = done.get_nowait()
                if not isinstance(late, (Failure, BaseException)):
                    late.close()

    # Daemon threads: Ctrl-C must not wait for a host that is slow to say no.
    for _ in range(min(window, len(hosts))):
        threading.Thread(target=work, name="open", daemon=True).start()
    taken = 0
    try:
        while taken < len(hosts):
            host, opened = done.get()
            taken += 1
            if isinstance(opened, BaseException):
                raise opened
            yield host, opened
    finally:
        abandoned.set()
        close_late()


def allow_descriptors(hosts: int, each: int, window: int) -> None:
    """Raise the limit on open files so that sessions with all ``hosts`` may stand at once.

    ``each`` session keeps so many open, and a login needs two more for a moment. Raises UsageError where this
    machine does not allow that, before anybody is asked.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _open_now() + each * hosts + 2 * min(hosts, window) + _SPARE
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    if hard != resource.RLIM_INFINITY and hard < wanted:
        fits = max(1, (hard - _open_now() - _SPARE) // (each + 2))
        raise UsageError(
            f"{hosts} hosts at once need some {wanted} open files, and this machine allows {hard}",
            hint=f"ask fewer at a time (--nodes {fits}), or raise the hard limit as root: `nofile` in "
            "/etc/security/limits.conf, then log in again",
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _open_now() -> int:
    try:
        return sum(1 for _ in Path("/dev/fd").iterdir())
    except OSError:
        return _SPARE
