"""Has old runs removed from hosts, all of them side by side. A host that gives no answer hides no other."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import msgspec

from clusterctl.ask.bundle import REMOTE_COMMAND, pack
from clusterctl.ask.pool import HostEnded, HostFailed, HostPool, HostSaid
from clusterctl.messages.clean import CleanDone, Removal, clean_messages
from clusterctl.settings import RUN, SSH
from clusterctl.transport.protocol import Transport

_NODE_FILES = ("run.directory", "run.log_limit", "run.snapshot", "shared.processes")


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One host's part of a run to remove. ``take_outputs``: also what its script wrote there."""

    node_rank: int
    take_outputs: bool


class Cleaned(msgspec.Struct, frozen=True, kw_only=True):
    """What one host says. ``problem``: why it did not finish; then nothing is known of runs not told of."""

    host: str
    runs: tuple[Removal, ...] = ()
    snapshots: int = 0
    snapshot_bytes: int = 0
    problem: str = ""

    @property
    def freed(self) -> int:
        """Bytes of disk."""
        return self.snapshot_bytes + sum(each.bytes for each in self.runs if each.what == "removed")


def clean(
    transport: Transport,
    parts: Mapping[str, Mapping[str, Part]],
    *,
    dry_run: bool,
    on_done: Callable[[str], None] | None = None,
) -> tuple[Cleaned, ...]:
    """Remove ``parts`` (host -> run -> part) and code that no run needs any more; with ``dry_run`` only say
    what would go. Answers in the order of ``parts``; ``on_done(host)`` hears of each."""
    heard: dict[str, list[Removal]] = {host: [] for host in parts}
    found: dict[str, Cleaned] = {}

    def opening(host: str) -> bytes:
        request = {"runs": msgspec.to_builtins(dict(parts[host])), "dry_run": dry_run}
        return pack("clean", request, _NODE_FILES)

    def settle(host: str, problem: str, done: CleanDone | None = None) -> None:
        if host not in found:
            found[host] = Cleaned(
                host=host,
                runs=tuple(heard[host]),
                snapshots=done.snapshots if done else 0,
                snapshot_bytes=done.bytes if done else 0,
                problem=problem,
            )
            if on_done is not None:
                on_done(host)

    deadline = time.monotonic() + SSH.probe_timeout
    pool = HostPool(transport, list(parts), REMOTE_COMMAND, opening, clean_messages, deadline)
    try:
        for event in pool.events(time.monotonic() + RUN.clean_timeout):
            match event:
                case HostFailed(host, failure):
                    settle(host, failure.message)
                case HostEnded(host, session):
                    settle(host, session.why_ended())
                case HostSaid(host, CleanDone() as done):
                    settle(host, "", done)
                case HostSaid(host, Removal() as removal) if removal.run in parts[host]:
                    heard[host].append(removal)
            if len(found) == len(parts):
                break
    finally:
        pool.close()
    for host in parts:
        settle(host, f"it did not finish within {RUN.clean_timeout:g} s")
    return tuple(found[host] for host in parts)
