"""When lines came: what a host tells of it beside its logs, and logs put in that order."""

from __future__ import annotations

import json
import math
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterctl.node.run.log_times import WRITE_SECONDS, LogTimes
from clusterctl.store.log_files import Cut, cut_out, head_of
from clusterctl.store.log_times import HostTimes
from clusterctl.store.timed_logs import Piece, TimedLog, TimedLogs


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def told(path: Path) -> list[list[float | None]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


# On a host


def test_a_pause_is_told_to_a_tenth_and_a_flood_once_a_second(tmp_path: Path, clock: Clock) -> None:
    times = LogTimes(str(tmp_path / "times.ndjson"), clock=clock, wall=clock)
    for look in range(1, 301):  # thirty seconds
        times.saw("rank-0.log", look * 10)
        times.saw("rank-1.log", 5 if look < 200 else 9)
        times.saw("metrics-0.jsonl", look)
        times.write()
        clock.now += 0.1
    assert times.write(last=True) == math.inf
    found = told(tmp_path / "times.ndjson")
    assert [line[1:] for line in found if line[0] == 1] == [[5, 100.0], [9, pytest.approx(119.9)]]
    flood = [line for line in found if line[0] == 0]
    assert 30 <= len(flood) <= 41
    assert flood[-1][1] == 3000
    assert all(isinstance(size, int) and 0 < size <= 3000 for _, size, _ in flood)


def test_an_agent_s_log_and_those_of_later_attempts(tmp_path: Path, clock: Clock) -> None:
    times = LogTimes(str(tmp_path / "t"), clock=clock, wall=clock)
    times.saw("agent.attempt-2.log", 3)
    times.saw("rank-12.attempt-2.log", 4)
    times.saw("rank-1.log.old", 5)
    times.write(last=True)
    assert told(tmp_path / "t") == [[None, 3, 100.0], [12, 4, 100.0]]


def test_a_disk_that_refuses_is_asked_again_and_tells_then_of_when_it_was(
    tmp_path: Path, clock: Clock
) -> None:
    path = tmp_path / "gone" / "times.ndjson"
    times = LogTimes(str(path), clock=clock, wall=clock)
    times.saw("rank-0.log", 1)
    assert times.write() == WRITE_SECONDS
    path.parent.mkdir()
    clock.now += 5
    assert times.write() == math.inf
    assert told(path) == [[0, 1, 100.0]]


def test_a_link_in_its_place_is_not_followed(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "t").symlink_to(tmp_path / "precious")
    times = LogTimes(str(tmp_path / "t"), clock=clock, wall=clock)
    times.saw("rank-0.log", 1)
    times.write(last=True)
    assert not (tmp_path / "precious").exists()


# On the controller


class Host:
    """The directory of one host's logs."""

    def __init__(self, folder: Path, name: str, ahead: float = 0.0) -> None:
        self.folder = folder / name
        self.folder.mkdir()
        self.name = name
        self.times = HostTimes(self.folder / "times.ndjson", ahead)

    def prints(self, rank: int, text: bytes, at: float | None) -> None:
        log = self.folder / f"rank-{rank}.log"
        with log.open("ab") as stream:
            stream.write(text)
        if at is not None:
            with self.times.path.open("a") as stream_of_times:
                stream_of_times.write(f"[{rank},{log.stat().st_size},{at}]\n")

    def log(self, rank: int, **options: object) -> TimedLog:
        path = self.folder / f"rank-{rank}.log"
        return TimedLog(self.name, path, 0, self.times.of(rank), **options)  # type: ignore[arg-type]


def seen(pieces: list[Piece]) -> list[tuple[float | None, str, bytes]]:
    return [(piece.at, piece.host, piece.data) for piece in pieces]


def test_hosts_are_in_one_order_by_their_clocks_as_they_were_measured(tmp_path: Path) -> None:
    one, two = Host(tmp_path, "one"), Host(tmp_path, "two", ahead=100.0)
    one.prints(0, b"a\n", 10.0)
    two.prints(1, b"b\nc\n", 111.0)
    one.prints(0, b"d\n", 12.0)
    one.prints(0, b"no time", None)
    logs = TimedLogs([one.log(0), two.log(1)], [one.times, two.times])
    assert seen(list(logs.news(over=True))) == [
        (10.0, "one", b"a\n"),
        (11.0, "two", b"b\nc\n"),
        (12.0, "one", b"d\n"),
        (None, "one", b"no time"),
    ]


def test_a_line_came_when_its_end_did(tmp_path: Path) -> None:
    host = Host(tmp_path, "one")
    host.prints(0, b"first\nsec", 1.0)
    host.prints(0, b"ond\nthird\n", 2.0)
    found = seen(list(TimedLogs([host.log(0)], [host.times]).news(over=True)))
    assert found == [(1.0, "one", b"first\n"), (2.0, "one", b"second\n"), (2.0, "one", b"third\n")]


def test_what_is_followed_waits_for_its_time_but_not_for_ever(tmp_path: Path, clock: Clock) -> None:
    host = Host(tmp_path, "one")
    logs = TimedLogs([host.log(0, clock=clock)], [host.times])
    assert seen(list(logs.news(over=False))) == []
    host.prints(0, b"a\n", 1.0)
    host.prints(0, b"b\nha", None)
    assert seen(list(logs.news(over=False))) == [(1.0, "one", b"a\n")]
    assert seen(list(logs.news(over=False))) == []
    host.prints(0, b"lf\n", 2.0)
    assert seen(list(logs.news(over=False))) == [(2.0, "one", b"b\nhalf\n")]
    host.prints(0, b"lost\n", None)
    assert seen(list(logs.news(over=False))) == []
    clock.now += 60
    assert seen(list(logs.news(over=False))) == [(None, "one", b"lost\n")]
    assert seen(list(logs.news(over=True))) == []


def test_since_and_tail_begin_with_whole_lines(tmp_path: Path) -> None:
    host = Host(tmp_path, "one")
    for number in range(2000):
        host.prints(0, b"line %d %s\n" % (number, b"x" * 200), float(number))
    since = list(TimedLogs([host.log(0, since=1990.0)], [host.times]).news(over=True))
    assert [piece.at for piece in since] == [float(number) for number in range(1990, 2000)]
    assert since[0].data.startswith(b"line 1990 ")
    tail = list(TimedLogs([host.log(0, lines=3)], [host.times]).news(over=True))
    assert [piece.data.split()[1] for piece in tail] == [b"1997", b"1998", b"1999"]
    assert not list(TimedLogs([host.log(0, since=5000.0)], [host.times]).news(over=True))


def test_nonsense_among_the_times_moves_nothing(tmp_path: Path) -> None:
    host = Host(tmp_path, "one")
    host.prints(0, b"a\n", 5.0)
    with host.times.path.open("ab") as stream:
        stream.write(
            b'[0,4,NaN]\n{"x":1}\n[0,-4,7]\n[0,99999999999999999999,7]\n\xff\n[0,"4",1]\n[0,4,1e999]\n[0,4'
        )
    host.times.look()
    with host.times.path.open("ab") as stream:
        stream.write(b",3.0]\n")
    host.prints(0, b"b\n", None)
    found = seen(list(TimedLogs([host.log(0)], [host.times]).news(over=True)))
    assert found == [(5.0, "one", b"a\n"), (5.0, "one", b"b\n")]  # a clock that was set back


def test_a_log_that_lost_its_middle_keeps_its_times(tmp_path: Path) -> None:
    limit = 1 << 20
    head = head_of(limit)
    host = Host(tmp_path, "one")
    total = 0
    while total < 2 * limit:  # whose moments are where in the log they were looked at
        lines = b"".join(b"%07d\n" % (total // 8 + number) for number in range(4096))
        total += len(lines)
        host.prints(0, lines, float(total))
    path = host.folder / "rank-0.log"
    cut = Cut(head, total - limit // 4)
    cut_out(path, Cut(), cut, lambda: None)
    host.times.look()
    found = list(TimedLog("one", path, limit, host.times.of(0)).pieces(over=True))
    assert b"".join(piece.data for piece in found) == path.read_bytes()
    for piece in found:
        assert piece.at is not None
        if piece.data != cut.line:
            numbers = [int(each) for each in piece.data.split()]
            assert all(piece.at - 32768 < (number + 1) * 8 <= piece.at for number in numbers)


@given(
    st.lists(st.tuples(st.binary(max_size=30), st.booleans()), max_size=30),
    st.booleans(),
)
def test_no_byte_is_lost_or_told_twice(
    tmp_path_factory: pytest.TempPathFactory, parts: list[tuple[bytes, bool]], live: bool
) -> None:
    host = Host(tmp_path_factory.mktemp("logs"), "one")
    logs = TimedLogs([host.log(0)], [host.times])
    whole, found = b"", b""
    for number, (text, timed) in enumerate(parts):
        host.prints(0, text, float(number) if timed and text else None)
        whole += text
        if live:
            found += b"".join(piece.data for piece in logs.news(over=False))
            assert not found or found.endswith(b"\n")
    found += b"".join(piece.data for piece in logs.news(over=True))
    assert found == whole


def test_times_are_json_that_anybody_reads(tmp_path: Path, clock: Clock) -> None:
    times = LogTimes(str(tmp_path / "t"), clock=clock, wall=lambda: 1796071864.129)
    times.saw("rank-3.log", 31)
    times.write(last=True)
    assert (tmp_path / "t").read_bytes() == b"[3,31,1796071864.13]\n"
    assert msgspec.json.decode((tmp_path / "t").read_bytes()) == [3, 31, 1796071864.13]
