"""TensorBoard's event files: records of protocol buffers with their checksums. All its versions read them.

Written here, because what tensorboard brings for it costs seconds to load, and needs no more than this.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Mapping
from pathlib import Path

_POLYNOMIAL = 0x82F63B78  # CRC-32C, bits reversed
_MASK = 0xA282EAD8
_DOUBLE, _BYTES, _FLOAT, _VARINT = 1, 2, 5, 0


def _table() -> tuple[int, ...]:
    found = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
        found.append(value)
    return tuple(found)


_TABLE = _table()


def crc32c(data: bytes) -> int:
    found = 0xFFFFFFFF
    for byte in data:
        found = found >> 8 ^ _TABLE[(found ^ byte) & 0xFF]
    return found ^ 0xFFFFFFFF


def first_record(time: float) -> bytes:
    """What a file begins with."""
    return _record(_event(time) + _field(3, b"brain.Event:2"))


def scalars(time: float, step: int, values: Mapping[str, float]) -> bytes:
    """One record: numbers by name, at a step and a moment of the wall clock."""
    told = b"".join(
        _field(1, _field(1, name.encode()) + _tag(2, _FLOAT) + struct.pack("<f", _single(value)))
        for name, value in values.items()
    )
    return _record(_event(time) + _tag(2, _VARINT) + _varint(step) + _field(5, told))


def name_of(number: int) -> str:
    """Of a file, as tensorboard looks for it; ``number`` is any."""
    return f"events.out.tfevents.{number}.clusterctl"


def append(path: Path, data: bytes) -> None:
    """Raises OSError. A record that a full disk has cut short is what readers stop at."""
    target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        os.write(target, data)
    finally:
        os.close(target)


def _record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return b"".join((length, _masked(length), data, _masked(data)))


def _masked(data: bytes) -> bytes:
    found = crc32c(data)
    return struct.pack("<I", ((found >> 15 | found << 17) + _MASK) & 0xFFFFFFFF)


def _event(time: float) -> bytes:
    return _tag(1, _DOUBLE) + struct.pack("<d", time)


def _field(number: int, data: bytes) -> bytes:
    return _tag(number, _BYTES) + _varint(len(data)) + data


def _tag(number: int, kind: int) -> bytes:
    return _varint(number << 3 | kind)


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*found, value))


def _single(value: float) -> float:
    """As a number of four bytes, of which there is none so large."""
    try:
        struct.pack("<f", value)
    except OverflowError:
        return math.copysign(math.inf, value)
    return value
