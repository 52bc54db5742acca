"""What people read of bytes on their way."""

from __future__ import annotations

from clusterctl.report.moved import Moved


def test_a_rate_is_told_once_there_is_one() -> None:
    moved = Moved()
    assert moved.text(0, 10.0, total=80_000_000) == "0 B of 80.0 MB"
    assert moved.text(1_000_000, 10.5, total=80_000_000) == "1.0 MB of 80.0 MB"
    assert moved.text(4_000_000, 12.0, total=80_000_000) == "4.0 MB of 80.0 MB, 2.0 MB/s"


def test_the_rate_is_that_of_the_last_seconds() -> None:
    moved = Moved()
    for second in range(20):
        text = moved.text(second * 1_000_000 if second < 10 else 9_000_000 + (second - 9) * 10_000, second)
    assert text == "9.1 MB, 10.0 kB/s"


def test_bytes_that_stand_still_are_said_to() -> None:
    moved = Moved()
    moved.text(0, 0.0)
    assert moved.text(3_000_000, 2.0) == "3.0 MB, 1.5 MB/s"
    assert moved.text(3_000_000, 6.0) == "3.0 MB, 500.0 kB/s"
    assert moved.text(3_000_000, 14.0) == "3.0 MB, nothing for 12 s"
    assert moved.text(4_000_000, 15.0) == "4.0 MB, 111.1 kB/s"


def test_another_copy_begins_anew() -> None:
    moved = Moved()
    moved.text(9_000_000, 0.0)
    assert moved.text(0, 2.0) == "0 B"
    assert moved.text(2_000_000, 4.0) == "2.0 MB, 1.0 MB/s"
