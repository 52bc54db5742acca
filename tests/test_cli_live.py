"""What the ranks print, as it reaches the screen."""

from __future__ import annotations

import os
import random
import select
import threading
import time

import pytest

from clusterctl.cli.live import LiveOutput, hue
from clusterctl.cli.streams import register_signs
from clusterctl.cli.terminal import Terminal
from tests.test_run_machine import plan as make_plan


class Recorder(Terminal):
    """Keeps what is put."""

    def __init__(self) -> None:
        self.text = b""

    def attach(self, source: object) -> None:
        self.source = source

    def put(self, line: bytes, *, keep: bool = False) -> None:
        self.text += line


@pytest.fixture
def terminal() -> Recorder:
    return Recorder()


@pytest.fixture
def live(terminal: Recorder) -> LiveOutput:
    return LiveOutput(make_plan(2), terminal, paint=None)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_whole_lines_stand_behind_host_and_rank(live: LiveOutput, terminal: Recorder) -> None:
    live.output("h0", "rank-0.log", b"step 1\nst")
    live.output("h1", "rank-1.log", b"other\n")
    live.output("h0", "rank-0.log", b"ep 2\n")
    live.output("h0", "agent.log", b"the engine's own\n")
    live.say("a host \x1b[2Jsaid\nthis")
    assert terminal.text.decode().splitlines() == [
        "h0 0       │ step 1",
        "h1 1       │ other",
        "h0 0       │ step 2",
        "clusterctl │ a host \\x1b[2Jsaid",
        "clusterctl │ this",
    ]


def test_a_bar_is_printed_in_its_last_state(live: LiveOutput, terminal: Recorder) -> None:
    for state in (b"\r 10%", b"\r 20%", b"\r", b" 30%\r", b"\n"):
        live.output("h0", "rank-0.log", state)
    live.output("h0", "rank-0.log", b"no end")
    live.flush()
    assert terminal.text.decode().splitlines() == ["h0 0       │  30%", "h0 0       │ no end"]


def test_a_bar_is_seen_while_it_has_no_end(live: LiveOutput, clock: list[float]) -> None:
    live.output("h0", "rank-0.log", b"\r 10% \x1b[A\x1b[31m###")
    assert live.footer(80) == []
    clock[0] += 2
    assert live.footer(80) == ["h0 0       │  10% ###".encode()]
    assert live.footer(20) == ["h0 0       │  10% #".encode()]
    assert live.overdue() == []
    clock[0] += 4
    assert live.overdue() == ["h0 0       │  10% ###\n".encode()]
    live.output("h0", "rank-0.log", b"\r 20%")
    assert live.overdue() == []
    clock[0] += 11
    assert live.overdue() == ["h0 0       │  20%\n".encode()]
    clock[0] += 11
    assert live.overdue() == [], "nothing new"
    live.output("h0", "rank-0.log", b"\n")
    assert live.footer(80) == []


def test_many_bars_take_a_part_of_the_screen(terminal: Recorder, clock: list[float]) -> None:
    live = LiveOutput(make_plan(30), terminal, paint=None)
    for number in range(30):
        live.output(f"h{number}", f"rank-{number}.log", b"\r50%")
    clock[0] += 2
    footer = live.footer(80)
    assert len(footer) == 8
    assert footer[-1].endswith(b"and 23 more lines without an end")


def test_what_is_awaited_is_said_until_the_first_output(live: LiveOutput, clock: list[float]) -> None:
    live.awaiting("copying code to node1: 1.0 of 12 MB")
    assert live.footer(80) == []
    clock[0] += 6
    live.awaiting("copying code to node1: 3.1 of 12 MB")
    assert live.footer(80) == ["clusterctl │ copying code to node1: 3.1 of 12 MB (6 s)".encode()]
    assert live.overdue() == ["clusterctl │ copying code to node1: 3.1 of 12 MB\n".encode()]
    live.output("h0", "rank-0.log", b"first\n")
    assert live.footer(80) == []
    assert live.overdue() == []


def test_nothing_is_awaited_after_the_first_output_of_a_rank(live: LiveOutput, clock: list[float]) -> None:
    live.output("h0", "rank-0.log", b"first\n")
    live.awaiting("2 of 2 ranks up, importing")
    clock[0] += 6
    assert live.footer(80) == []
    assert live.overdue() == []


def test_what_the_end_waits_for_is_said_though_ranks_have_printed(
    live: LiveOutput, clock: list[float]
) -> None:
    live.output("h0", "rank-0.log", b"first\n")
    live.ending("waiting for h1 to end")
    clock[0] += 3
    assert live.footer(80) == ["clusterctl │ waiting for h1 to end (3 s)".encode()]
    live.output("h0", "rank-0.log", b"saving\n")
    assert live.footer(80) == []
    live.ending("waiting for h1 to end")
    clock[0] += 2
    assert live.footer(80) == ["clusterctl │ waiting for h1 to end (2 s)".encode()]
    live.ending("")
    assert live.footer(80) == []


def test_a_line_of_many_megabytes_is_cut_and_its_length_told(live: LiveOutput, terminal: Recorder) -> None:
    for _ in range(100):
        live.output("h0", "rank-0.log", b"x" * 100_000)
    live.output("h0", "rank-0.log", b"\nafter\n")
    first, second = terminal.text.decode().splitlines()
    assert len(first) < 20_000
    assert first.endswith("x ... (10,000,000 bytes in one line, all in logs/)")
    assert second == "h0 0       │ after"


@pytest.mark.parametrize("seed", range(20))
def test_a_flood_is_shown_line_by_line(live: LiveOutput, terminal: Recorder, seed: int) -> None:
    chance = random.Random(seed)
    lengths = [chance.choice((0, 1, 80, 3000, 9000, 16 << 10)) for _ in range(chance.randrange(1, 60))]
    lines = [b"ab"[number % 2 :][:1] * length for number, length in enumerate(lengths)]
    text = b"".join(line + b"\n" for line in lines)
    while text:
        size = chance.choice((1, 5000, 200_000))
        live.output("h0", "rank-0.log", text[:size])
        text = text[size:]
    assert terminal.text.split(b"\n")[:-1] == ["h0 0       │ ".encode() + line for line in lines]


def test_an_ascii_terminal_gets_ascii(terminal: Recorder) -> None:
    register_signs()
    live = LiveOutput(make_plan(2), terminal, paint=None, encoding="ascii")
    live.output("h0", "rank-0.log", "✓ größer\n".encode())
    assert terminal.text == b"h0 0       | + gr\\xf6\\xdfer\n"


@pytest.mark.parametrize("node_rank", range(64))
def test_no_host_is_red(node_rank: int) -> None:
    red, green, blue = hue(node_rank)
    assert red <= max(green, blue)


def test_a_reader_who_is_slow_stops_nobody_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """The terminal's thread asks for lines without an end while the other waits for room."""
    monkeypatch.setattr("clusterctl.cli.terminal._REFRESH", 0.0)
    reading, writing = os.pipe()
    terminal = Terminal(writing, patient=True, limit=1000)
    live = LiveOutput(make_plan(2), terminal, paint=None)
    lines = b"x" * 99 + b"\n"
    printing = threading.Thread(target=live.output, args=("h0", "rank-0.log", lines * 20_000), daemon=True)
    printing.start()
    left = 20_000
    while left and select.select([reading], [], [], 60)[0]:
        left -= os.read(reading, 1 << 16).count(b"\n")
    assert left == 0
    printing.join(60)
    assert not printing.is_alive()
    assert terminal.close()
    os.close(reading)
    os.close(writing)
