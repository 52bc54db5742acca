"""What an agent writes into a node's ``events.jsonl``: the history of that node's part of a run.

Every event has ``time``, wall-clock seconds of the node. Tag field: ``event``.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

Rank = Annotated[int, msgspec.Meta(ge=0)]
Text = Annotated[str, msgspec.Meta(max_length=65_536)]


class _Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="event"):
    time: float


class AgentStarted(_Event, frozen=True, kw_only=True, tag="agent"):
    """The agent lives. ``started`` is its start time in clock ticks since boot, ``boot`` names that boot."""

    pid: int
    started: int
    boot: str


class EngineStarted(_Event, frozen=True, kw_only=True, tag="engine"):
    pid: int


class EngineExited(_Event, frozen=True, kw_only=True, tag="engine-exit"):
    """``code`` is 128+n for a signal; ``told`` when its node was being stopped, ``swept`` when its agent
    killed it, because it had not ended with its ranks. ``oom`` is which memory was short, where the kernel
    killed it for that; ``sent`` the signal that it says it was sent by somebody else."""

    code: int
    told: bool
    swept: bool = False
    oom: str = ""
    sent: int | None = None


class RankStarted(_Event, frozen=True, kw_only=True, tag="rank-start"):
    rank: Rank
    local_rank: Rank
    pid: int


class RankError(msgspec.Struct, frozen=True, kw_only=True):
    """The exception that ended a script; ``time`` is when it was raised."""

    type: Text
    message: Text
    traceback: Text = ""
    time: float


class RankExited(_Event, frozen=True, kw_only=True, tag="rank-exit"):
    """How a rank ended. ``code`` is 128+n for signal n; ``peak_memory`` is bytes.

    ``told``: it ended as it was asked to (our stop, or its engine's): collateral. ``oom`` says which memory
    limit killed it, in words; empty for any other end.
    """

    rank: Rank
    code: int
    signal: int | None
    started: float
    ended: float
    peak_memory: int
    told: bool
    error: RankError | None = None
    oom: Text = ""


class Stopping(_Event, frozen=True, kw_only=True, tag="stopping"):
    reason: Text
    grace: float


class Refused(_Event, frozen=True, kw_only=True, tag="refused"):
    """This node cannot take its part. ``run`` is the run that holds the slots, where that is why."""

    reason: Text
    run: Text = ""


class NodeFailed(_Event, frozen=True, kw_only=True, tag="failure"):
    """Something on the node itself failed: the agent, the engine's start, its disk."""

    reason: Text


class LeaseOver(_Event, frozen=True, kw_only=True, tag="lease-over"):
    """Nobody renewed the lease, or it is gone: the agent ends its node."""

    reason: Text = ""


class Noted(_Event, frozen=True, kw_only=True, tag="note"):
    text: Text


class BigFile(msgspec.Struct, frozen=True, array_like=True):
    path: Text
    size: int


class Warned(_Event, frozen=True, kw_only=True, tag="warned"):
    """What a watch on the node saw while the run lives, or, with ``over``, that it is so no more.

    Told once for each ``subject`` (a mount point, a control group, an interface, a card). ``text`` is for
    people; ``files`` are the largest of the run's user where a disk is nearly full. ``unseen``: something
    cannot be watched on this node.
    """

    what: Literal["space", "memory", "kernel", "link", "gpu", "unseen"]
    subject: Text
    text: Text
    over: bool = False
    files: tuple[BigFile, ...] = ()


class LeftProcess(msgspec.Struct, frozen=True, array_like=True):
    pid: int
    command: Text


class Ended(_Event, frozen=True, kw_only=True, tag="end"):
    """The last event: ``left`` processes of the run are still there. ``strays`` bear no mark, and work where
    an earlier attempt had its files."""

    left: int
    processes: tuple[LeftProcess, ...] = ()
    strays: tuple[LeftProcess, ...] = ()


AgentEvent = (
    AgentStarted
    | EngineStarted
    | EngineExited
    | RankStarted
    | RankExited
    | Stopping
    | Refused
    | NodeFailed
    | LeaseOver
    | Noted
    | Warned
    | Ended
)
