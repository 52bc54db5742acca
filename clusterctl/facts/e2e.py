"""What was proved by doing it: a collective over all hosts, as training makes it."""

from __future__ import annotations

from typing import Literal

import msgspec

from clusterctl.facts.dcgm import Dcgm

Stage = Literal["", "begun", "store", "group", "reduced"]
State = Literal["works", "waits", "stopped", "silent"]


class Rank(msgspec.Struct, frozen=True, kw_only=True):
    """How far one rank came: it has ``begun``, has a connection to the ``store`` of rank 0 (which holds it
    itself), is in the ``group`` with all others, has ``reduced``.

    ``done`` is true at its good end. ``error`` is what its library said, ``ended`` how its process ended
    before its time. ``state`` is what its process did when it was last looked at: it ``works`` (or wants to),
    ``waits``, is ``stopped`` by a signal; ``silent``: the host did not say.
    """

    host: str
    rank: int
    device: str = "cpu"
    stage: Stage = ""
    done: bool = False
    error: str = ""
    ended: str = ""
    state: State = "works"
    unanswered: tuple[tuple[str, str], ...] = ()
    """(address, ``connect`` or ``data``) of peers whose kernel left it without an answer three times."""
    missing: tuple[int, ...] = ()
    """Ranks whose part is not in the sum."""
    times: tuple[tuple[int, float], ...] = ()
    """Bytes of an all-reduce, and its seconds."""
    log: tuple[str, ...] = ()
    """What its library logged of itself."""


class AllReduce(msgspec.Struct, frozen=True, kw_only=True):
    """One trial. ``left_out`` is host -> why it was not in it. It was not made where ``skipped`` says why it
    need not be, or ``blocked`` what stands in its way."""

    backend: str = "gloo"
    ranks: tuple[Rank, ...] = ()
    master_addr: str = ""
    master_port: int | None = None
    left_out: dict[str, str] = {}
    skipped: str = ""
    blocked: str = ""
    seconds: float = 0.0


class Transfer(msgspec.Struct, frozen=True, kw_only=True):
    """What TCP carried from ``source`` to ``target``, in bit/s of what was acknowledged.

    Shares of the time: ``busy`` with something to send, waiting for the ``receiver``, or for room in its own
    ``buffer``; ``cpu`` is of one core, ``idle`` of the sender's machine.
    """

    source: str
    target: str
    rate: float = 0.0
    busy: float = 0.0
    receiver: float = 0.0
    buffer: float = 0.0
    cpu: float = 0.0
    idle: float = 0.0
    error: str = ""


class Bandwidth(msgspec.Struct, frozen=True, kw_only=True):
    """``errors``: host -> why it could not take part."""

    transfers: tuple[Transfer, ...] = ()
    errors: dict[str, str] = {}
    skipped: str = ""


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """How one device fared with matrices: torch was ``imported`` there, its result was ``right``. ``flops``
    is operations a second at the end. ``unknown`` says why it is not known how it ended."""

    host: str
    device: str
    stage: Literal["begun", "imported", "right"] = "begun"
    flops: float = 0.0
    error: str = ""
    ended: str = ""
    unknown: str = ""


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """What was not asked for is None."""

    gloo: AllReduce | None = None
    bandwidth: Bandwidth | None = None
    nccl: AllReduce | None = None
    """Of all idle GPUs."""
    pairs: tuple[AllReduce, ...] = ()
    """Of two hosts each, suspects twice."""
    devices: tuple[Device, ...] = ()
    dcgm: dict[str, Dcgm] = {}

    @property
    def hosts(self) -> set[str]:
        """All that anything is told of."""
        trials = [each for each in (self.gloo, self.nccl, *self.pairs) if each is not None]
        named = {rank.host for trial in trials for rank in trial.ranks} | {*self.dcgm}
        if self.bandwidth is not None:
            named |= {end for each in self.bandwidth.transfers for end in (each.source, each.target)}
        return named | {device.host for device in self.devices}
