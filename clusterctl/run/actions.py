"""What the machine wants done. Pure values; `supervise` does them."""

from __future__ import annotations

import msgspec

from clusterctl.store.outcome import Outcome


class StopHosts(msgspec.Struct, frozen=True):
    """Tell these nodes to stop: TERM now, KILL after ``grace`` seconds."""

    nodes: tuple[int, ...]
    grace: float
    reason: str


class Reconnect(msgspec.Struct, frozen=True):
    """Drop the channel to a node and open a new one."""

    node: int


class IndirectProbe(msgspec.Struct, frozen=True):
    """Ask ``prober`` whether ``node`` answers over the training network."""

    prober: int
    node: int


class Observe(msgspec.Struct, frozen=True):
    """Have a node tell every ``interval`` seconds what its ranks do."""

    node: int
    interval: float


class LookAt(msgspec.Struct, frozen=True):
    """Have these nodes look at all of their ranks, for the ``look``-th time in this run."""

    nodes: tuple[int, ...]
    look: int


class Keep(msgspec.Struct, frozen=True):
    """A file of the run directory, as JSON."""

    name: str
    value: msgspec.Struct


class Say(msgspec.Struct, frozen=True):
    """One line for the operator and for ``events.jsonl``."""

    text: str


class Finish(msgspec.Struct, frozen=True):
    """The run is over."""

    outcome: Outcome


Action = StopHosts | Reconnect | IndirectProbe | Observe | LookAt | Keep | Say | Finish
