"""Asks hosts what dead runs left there, and has it ended; all of them side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import msgspec

from clusterctl.ask.bundle import REMOTE_COMMAND, pack
from clusterctl.ask.pool import HostEnded, HostFailed, HostPool, HostSaid
from clusterctl.messages.sweep import (
    LeftFile,
    LeftProcess,
    LivingRun,
    StrayProcess,
    SweepDone,
    SweepMessage,
    sweep_messages,
)
from clusterctl.settings import RUN, SSH
from clusterctl.transport.protocol import Transport

_NODE_FILES = (
    "run.agent_process", "run.directory", "run.dumps", "run.strays", "shared.files", "shared.gpu_holders",
    "shared.open_files", "shared.processes",
)  # fmt: skip


class Swept(msgspec.Struct, frozen=True, kw_only=True):
    """What one host says. ``strays`` are told, and never ended. ``problem``: why nothing, or not all, is
    known of it. ``left`` and ``unremoved`` are of what was to be ended there, and stayed."""

    host: str
    processes: tuple[LeftProcess, ...] = ()
    files: tuple[LeftFile, ...] = ()
    strays: tuple[StrayProcess, ...] = ()
    living: tuple[LivingRun, ...] = ()
    left: int = 0
    unremoved: tuple[str, ...] = ()
    problem: str = ""

    @property
    def found(self) -> bool:
        """Whether there is anything to end or remove."""
        return bool(self.processes or self.files)


def look(
    transport: Transport,
    hosts: Sequence[str],
    *,
    runs: Sequence[str] = (),
    shm: bool = False,
    on_done: Callable[[str], None] | None = None,
) -> tuple[Swept, ...]:
    """What is left on ``hosts``, of ``runs`` or of any; with ``shm`` also shared memory that nobody has open.
    Ends nothing. ``on_done(host)`` hears of each that has told."""
    request = {"runs": list(runs), "shm": shm, "end": None, "files": []}
    return _ask(transport, dict.fromkeys(hosts, request), on_done)


def end(
    transport: Transport,
    seen: Sequence[Swept],
    *,
    runs: Sequence[str] = (),
    shm: bool = False,
    on_done: Callable[[str], None] | None = None,
) -> tuple[Swept, ...]:
    """End what was seen, and nothing else; answers of the hosts where there was anything."""
    requests = {
        each.host: {
            "runs": list(runs),
            "shm": shm,
            "end": sorted({f"{process.run}/{process.part}" for process in each.processes}),
            "files": [file.path for file in each.files],
        }
        for each in seen
        if each.found
    }
    return _ask(transport, requests, on_done)


def _ask(
    transport: Transport,
    requests: Mapping[str, Mapping[str, object]],
    on_done: Callable[[str], None] | None,
) -> tuple[Swept, ...]:
    heard: dict[str, list[SweepMessage]] = {host: [] for host in requests}
    found: dict[str, Swept] = {}

    def settle(host: str, problem: str, done: SweepDone | None = None) -> None:
        if host in found:
            return
        said = heard[host]
        found[host] = Swept(
            host=host,
            processes=tuple(each for each in said if isinstance(each, LeftProcess)),
            files=tuple(each for each in said if isinstance(each, LeftFile)),
            strays=tuple(each for each in said if isinstance(each, StrayProcess)),
            living=tuple(each for each in said if isinstance(each, LivingRun)),
            left=done.left if done else 0,
            unremoved=done.unremoved if done else (),
            problem=problem,
        )
        if on_done is not None:
            on_done(host)

    def opening(host: str) -> bytes:
        return pack("sweep", requests[host], _NODE_FILES)

    deadline = time.monotonic() + SSH.probe_timeout
    pool = HostPool(transport, list(requests), REMOTE_COMMAND, opening, sweep_messages, deadline)
    try:
        for event in pool.events(time.monotonic() + RUN.sweep_timeout) if requests else ():
            match event:
                case HostFailed(host, failure):
                    settle(host, failure.message)
                case HostEnded(host, session):
                    settle(host, session.why_ended())
                case HostSaid(host, SweepDone() as done):
                    settle(host, "", done)
                case HostSaid(host, message):
                    heard[host].append(message)
            if len(found) == len(requests):
                break
    finally:
        pool.close()
    for host in requests:
        settle(host, f"it did not finish within {RUN.sweep_timeout:g} s")
    return tuple(found[host] for host in requests)
