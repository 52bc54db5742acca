"""What a host did at one moment of a run: a line of ``samples/<host>.ndjson``, see docs/metrics.md. Pure."""

from __future__ import annotations

from typing import Annotated

import msgspec

VERSION = 1
REASONS = {
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "heat",
    0x40: "heat (hardware)",
    0x80: "power brake",
}
"""Why a driver holds clocks back, by NVML's bits; being idle, or set to a clock, is no such reason."""
_Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
_Count = Annotated[int, msgspec.Meta(ge=0)]
_Rates = tuple[_Count, _Count]


class GpuName(msgspec.Struct, frozen=True, array_like=True):
    name: str | None = None
    memory: _Count | None = None


class SampledHost(msgspec.Struct, frozen=True, kw_only=True):
    """What the samples after it are of; ``memory`` and ``swap`` are bytes. ``gpus`` None: none seen yet."""

    v: int
    cores: int | None = None
    memory: _Count | None = None
    swap: _Count | None = None
    gpus: tuple[GpuName, ...] | None = None


class GpuSample(msgspec.Struct, frozen=True, array_like=True):
    """None is what the card does not tell."""

    use: _Share | None = None
    memory: _Count | None = None
    temperature: int | None = None
    watts: _Count | None = None
    clock: _Count | None = None
    """MHz of its multiprocessors."""
    held_back: _Count | None = None
    """Why its clocks are, as bits: `reasons` names them."""

    @property
    def reasons(self) -> tuple[str, ...]:
        return tuple(words for bit, words in REASONS.items() if (self.held_back or 0) & bit)


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """None is what nobody could tell. Pairs are bytes a second since the sample before: read and written,
    received and sent."""

    time: float = msgspec.field(name="t")
    cpu: _Share | None = None
    memory: _Count | None = msgspec.field(name="mem", default=None)
    swap: _Count | None = None
    disk: _Rates | None = None
    net: _Rates | None = None
    rdma: _Rates | None = None
    gpus: tuple[GpuSample | None, ...] | None = None
    """None in place of a card that is lost; None for all where the driver does not answer, or is none."""


_host = msgspec.json.Decoder(SampledHost)
_sample = msgspec.json.Decoder(Sample)


def decode(line: bytes) -> SampledHost | Sample | None:
    """None for what is neither, or another version's."""
    try:
        if line.startswith(b'{"v"'):
            host = _host.decode(line)
            return host if host.v == VERSION else None
        return _sample.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
