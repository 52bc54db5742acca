"""What is said of ranks that hang: the values that a verdict is made of."""

from __future__ import annotations

from typing import Literal

import msgspec

from clusterctl.advise.collectives import GroupState
from clusterctl.messages.evidence import Frame

Kind = Literal[
    "stopped",
    "raised",
    "ended",
    "loader",
    "disk",
    "swap",
    "silent",
    "locked",
    "missing",
    "works",
    "disagree",
    "circle",
    "stuck",
    "rendezvous",
    "idle",
    "moves",
]


class Suspect(msgspec.Struct, frozen=True, kw_only=True):
    """A rank that the others wait for; ``pid`` is on its host, 0 where it is not known."""

    rank: int
    host: str
    node_rank: int
    pid: int = 0
    state: str = ""
    where: str = ""


class FoldedStack(msgspec.Struct, frozen=True, kw_only=True):
    """One stack, innermost frame first, and all ranks that have it. ``thread`` names one that is not the
    script's own. Files are named from the run's working directory, or from where packages lie."""

    ranks: tuple[int, ...]
    thread: str = ""
    frames: tuple[Frame, ...]


class HangVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """``sentence`` says it all in one; ``reason`` says why the run is stopped, or is not.

    ``stacks`` have the fewest ranks first. ``unknown`` names hosts that did not tell. All texts may hold what
    a node sent: a renderer makes them harmless.
    """

    kind: Kind
    stop: bool
    sentence: str
    reason: str
    hint: str = ""
    suspects: tuple[Suspect, ...] = ()
    waiting: tuple[int, ...] = ()
    stacks: tuple[FoldedStack, ...] = ()
    groups: tuple[GroupState, ...] = ()
    unknown: tuple[str, ...] = ()


class HangSeen(msgspec.Struct, frozen=True):
    """A verdict, and when it was made, in seconds since the epoch."""

    verdict: HangVerdict
    at: float
