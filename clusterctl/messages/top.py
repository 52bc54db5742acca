"""What a node says of itself every few seconds for `clusterctl top`. Tag field: ``is``."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from clusterctl.messages.codec import Decoder
from clusterctl.messages.events import Text

Count = Annotated[int, msgspec.Meta(ge=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Driver = Literal["none", "asked", "told"]


class GpuSeen(msgspec.Struct, frozen=True, kw_only=True):
    """One card. None is what it does not tell; bytes, degrees, watts. ``held_back``: NVML's bits for why its
    clocks are."""

    name: Text | None = None
    total: Count | None = None
    use: Share | None = None
    memory: Count | None = None
    temperature: int | None = None
    watts: Count | None = None
    held_back: Count | None = None


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A process that holds memory of card ``gpu``, or is a rank of a run. ``run`` and ``rank`` by its mark,
    which only its own user can read; ``since`` is wall clock, ``memory`` what it holds of the card."""

    pid: Count
    user: Text
    command: Text
    gpu: Count | None = None
    memory: Count | None = None
    since: float | None = None
    run: Text = ""
    rank: Count | None = None


class HostSeen(msgspec.Struct, frozen=True, kw_only=True, tag_field="is", tag="seen"):
    """``time`` is the host's wall clock. ``driver``: whether there is one for GPUs, and it answers: ``gpus``
    is None unless it ``told``, and None in place of a card that is lost."""

    time: float
    cores: Count | None = None
    load: float | None = None
    cpu: Share | None = None
    memory: Count | None = None
    memory_total: Count | None = None
    driver: Driver = "none"
    gpus: tuple[GpuSeen | None, ...] | None = None
    jobs: tuple[Job, ...] = ()


TopMessage = HostSeen

top_messages: Decoder[TopMessage] = Decoder(TopMessage)
