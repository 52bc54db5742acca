"""Event files of TensorBoard, against what its own writer (2.20) makes of the same values."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from pathlib import Path

from clusterctl.run.metrics.tensorboard import FOLDER, EventFile
from clusterctl.store.event_file import crc32c, first_record, scalars
from clusterctl.store.step import Step

THEIRS = bytes.fromhex(
    "1800000000000000a37f4b2209000010801a4bda411a0d627261696e2e4576656e743a32d528fe3a3f0000000000000051657"
    "66109000060801a4bda4110ac022a310a0b0a046c6f737315000020400a110a0a7065616b5f62797465731529539e510a0f0a"
    "086f746865722fc3bc150000807fe3f271d9"
)


def records(path: Path) -> Iterator[bytes]:
    data = path.read_bytes()
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        yield data[12 : 12 + length]
        data = data[16 + length :]


def test_checksums() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA


def test_records_are_those_of_tensorboard_to_the_byte() -> None:
    values = {"loss": 2.5, "peak_bytes": 8.5e10, "other/\u00fc": 1e300}
    assert first_record(1764518400.25) + scalars(1764518401.5, 300, values) == THEIRS


def test_of_a_step_that_is_known_better_what_is_new_is_written(tmp_path: Path) -> None:
    file = EventFile(tmp_path, 2)
    file.add([Step(attempt=2, step=1, time=5.0, loss=1.0, loss_max=1.0)])
    file.add([Step(attempt=2, step=1, time=6.0, loss=1.0, loss_max=1.0, eval_loss=math.nan)])
    file.add([Step(attempt=2, step=2)])
    (path,) = (tmp_path / FOLDER / "attempt-2").iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(list(records(path))) == 3
    again = EventFile(tmp_path, 2)  # of a controller that took over
    again.add([Step(attempt=2, step=1, time=5.0, loss=1.0)])
    assert len(list(records(path))) == 2
