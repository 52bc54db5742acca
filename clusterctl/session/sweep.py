"""What runs left on hosts when their controllers and agents died, found and ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from clusterctl.ask import sweep as asking
from clusterctl.ask.sweep import Swept
from clusterctl.session.target import Target


class Sweep(msgspec.Struct, frozen=True, kw_only=True):
    """``seen``: every host, as it was found. ``ended``: those where something was to be ended, as they were
    left then; None when nothing was ended."""

    seen: tuple[Swept, ...]
    ended: tuple[Swept, ...] | None = None

    @property
    def complete(self) -> bool:
        """Whether every host answered, and nothing stayed that was to be ended."""
        hosts = (*self.seen, *(self.ended or ()))
        return not any(host.problem or host.left or host.unremoved for host in hosts)


def look(
    target: Target,
    *,
    runs: Sequence[str] = (),
    shm: bool = False,
    on_done: Callable[[str], None] | None = None,
) -> Sweep:
    """What is left, of ``runs`` or of any: processes, files; with ``shm`` also shared memory that no process
    has open. Ends nothing. ``on_done(host)`` hears of each host that has told."""
    link = target.connect()
    try:
        return Sweep(seen=asking.look(link, target.names, runs=runs, shm=shm, on_done=on_done))
    finally:
        link.close()


def end(
    target: Target,
    found: Sweep,
    *,
    runs: Sequence[str] = (),
    shm: bool = False,
    on_done: Callable[[str], None] | None = None,
) -> Sweep:
    """End what ``found`` shows, if it is still left over. ``runs`` and ``shm`` as they were for `look`."""
    link = target.connect()
    try:
        return Sweep(seen=found.seen, ended=asking.end(link, found.seen, runs=runs, shm=shm, on_done=on_done))
    finally:
        link.close()
