"""Opens channels on many hosts at once, no more than a window of them at a time."""

from __future__ import annotations

import queue
import resource
import threading
from collections.abc import Callable, Iterator, Sequence

from clusterctl.transport.protocol import Channel, Failure

Opened = Channel | Failure


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
            if abandoned.is_set() and not isinstance(opened, (Failure, BaseException)):
                opened.close()
            done.put((host, opened))

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
        while not done.empty():
            _, late = done.get()
            if not isinstance(late, (Failure, BaseException)):
                late.close()


def allow_descriptors(count: int) -> None:
    """Raise the limit on open files for ``count`` more, as far as this machine lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + 256
    if soft != resource.RLIM_INFINITY and soft < wanted:
        limit = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, limit), hard))
