"""What the controller orders of the relay of one node, while a run lives; answers are in `messages.relay`.

The field ``do`` tells them apart.
"""

from __future__ import annotations

import msgspec

from clusterctl.messages.relay import Size


class _Order(msgspec.Struct, frozen=True, kw_only=True, tag_field="do"):
    pass


class Keepalive(_Order, frozen=True, kw_only=True, tag="beat"):
    """Says no more than that the controller lives; renews the lease like every order."""


class Check(_Order, frozen=True, kw_only=True, tag="check"):
    """Is this code there: at ``root`` itself (when ``in_place``), or as a snapshot? Answer: `Checked`."""

    root: str
    manifest: dict[str, str]
    in_place: bool
    digest: str


class Archive(_Order, frozen=True, kw_only=True, tag="archive"):
    """A piece of a snapshot; ``begin`` opens it, ``end`` asks for `Unpacked`. ``data`` is base64."""

    digest: str
    begin: bool = False
    data: bytes = b""
    end: bool = False


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One node's part of a run, whole. ``engine`` None: DeepSpeed's launcher brings it through ``enter``.

    ``cwd`` None: a copy of the snapshot ``digest``. Texts may hold ``{run_dir}``, which the relay replaces.
    """

    run: str
    owner: str
    node_rank: int
    slots: tuple[int, ...]
    ranks: tuple[int, ...]
    python: str
    command: tuple[str, ...]
    arguments: tuple[str, ...]
    pass_local_rank: bool
    env: dict[str, str]
    removed: tuple[str, ...]
    engine: tuple[str, ...] | None
    enter: str
    files: dict[str, str]
    cwd: str | None
    subdirectory: str
    digest: str
    failure_grace: float
    lock_dir: str
    interface: str = ""
    """That of the training network, whose link is watched."""
    watched: tuple[str, ...] = ()
    """Further directories whose disks are watched, seen from where the run works."""
    log_head: int = 0
    """Bytes of the beginning of each log that are kept when it is cut,"""
    log_limit: int = 0
    """and of all of it; 0: it never is."""
    caches: str = ""
    """Below it lies what variables of ``env`` name, once it has been seen to be the user's own."""
    stdin: bool = False
    """Rank 0 reads what `Input` brings; every other rank, and without this rank 0 too, reads nothing."""
    observed: bool = False
    """Ranks are prepared for `Look`: a hang of theirs can be explained."""


class StartAgent(_Order, frozen=True, kw_only=True, tag="start"):
    """Answer: `Started`, or `Failed`."""

    job: Job


class Attach(_Order, frozen=True, kw_only=True, tag="attach"):
    """Go on with a run this node has. Answer: events and logs from the offsets on, or `Absent`."""


class Stop(_Order, frozen=True, kw_only=True, tag="stop"):
    """TERM every rank now, KILL what is left after ``grace`` seconds."""

    grace: float
    reason: str


class SignalRanks(_Order, frozen=True, kw_only=True, tag="signal"):
    """Hand a signal (SIGUSR1, SIGUSR2) on to every rank's own process."""

    number: int


class Input(_Order, frozen=True, kw_only=True, tag="input"):
    """Bytes for the standard input of rank 0; empty data is its end."""

    data: bytes = b""


class Acknowledge(_Order, frozen=True, kw_only=True, tag="ack"):
    """``received`` bytes of logs have arrived in this session so far: the relay sends no more than a window
    ahead of it, so that control messages never queue behind logs on a slow link."""

    received: Size


class Probe(_Order, frozen=True, kw_only=True, tag="probe"):
    """Does node ``node_rank`` answer over the training network? Answer: `Probed`."""

    node_rank: int
    address: str
    ports: tuple[int, ...]


class FindCheckpoints(_Order, frozen=True, kw_only=True, tag="checkpoints"):
    """Which ones lie in ``directory``, seen from where the run will work: ``cwd`` and ``subdirectory`` are
    those of its `Job`. Answer: `Checkpoints`."""

    directory: str
    cwd: str | None
    subdirectory: str


class PlaceLatest(_Order, frozen=True, kw_only=True, tag="latest"):
    """Have the file ``latest`` in ``directory`` name this checkpoint. Answer: `Placed`."""

    directory: str
    tag: str


class Watch(_Order, frozen=True, kw_only=True, tag="watch"):
    """Tell every ``interval`` seconds, less often where counting takes long, what the ranks have done:
    `Activity`. Connections of ``port`` are not counted."""

    interval: float
    port: int


class Look(_Order, frozen=True, kw_only=True, tag="look"):
    """Look at all ranks once. Answer: `Evidence`, which can take its time, or never come."""

    look: int
    port: int


class Forget(_Order, frozen=True, kw_only=True, tag="forget"):
    """All is on the controller. Remove everything but what the script wrote; of an attempt that is not the
    ``last``, the whole copy of the code stays. Answer: `Forgotten`."""

    enter: str
    last: bool = True


Order = (
    Keepalive
    | Check
    | Archive
    | StartAgent
    | Attach
    | Stop
    | SignalRanks
    | Input
    | Acknowledge
    | Probe
    | FindCheckpoints
    | PlaceLatest
    | Watch
    | Look
    | Forget
)
