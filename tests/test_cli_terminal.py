"""The thread that writes to a terminal or pipe: nobody waits for a reader, and what is skipped is said."""

from __future__ import annotations

import os
import pty
import re
import threading
import time
import tty
from collections.abc import Iterator

import pytest

from clusterctl.cli.terminal import Terminal

Pipe = tuple[int, int]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            continue


def read_all(descriptor: int, into: list[bytes]) -> threading.Thread:
    """Reads until the other end is closed."""

    def read() -> None:
        while data := os.read(descriptor, 1 << 16):
            into.append(data)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    return reader


def test_lines_come_out_in_order(pipe: Pipe) -> None:
    found: list[bytes] = []
    reader = read_all(pipe[0], found)
    terminal = Terminal(pipe[1])
    lines = [b"line %d\n" % number for number in range(20_000)]
    for line in lines:
        terminal.put(line)
    assert terminal.close(b"end\n", timeout=60)
    os.close(pipe[1])
    reader.join()
    assert b"".join(found) == b"".join(lines) + b"end\n"


def test_a_pipe_nobody_reads_holds_nobody_up_and_what_was_skipped_is_said(pipe: Pipe) -> None:
    terminal = Terminal(pipe[1], limit=1 << 16)
    line = b"x" * 99 + b"\n"
    for _ in range(10_000):  # 1 MB into a pipe of 64 kB: returns, or this test never ends
        terminal.put(line)
    terminal.put(b"stopping\n", keep=True)
    assert not terminal.close(b"the end\n", timeout=0.2)
    found: list[bytes] = []
    reader = read_all(pipe[0], found)
    assert terminal.close(timeout=60)
    os.close(pipe[1])
    reader.join()
    text = b"".join(found).decode()
    told = re.findall(r"\.\.\. ([0-9,]+) lines? skipped here, all in logs/\n", text)
    shown = text.count("x" * 99 + "\n")
    assert told and shown + sum(int(number.replace(",", "")) for number in told) == 10_000
    assert text.endswith("the end\n") and "stopping\n" in text


def test_a_patient_one_skips_nothing(pipe: Pipe) -> None:
    terminal = Terminal(pipe[1], limit=1000, patient=True)
    lines = [b"%099d\n" % number for number in range(3000)]
    found: list[bytes] = []
    reader = read_all(pipe[0], found)
    for line in lines:
        terminal.put(line)
    assert terminal.close(timeout=60)
    os.close(pipe[1])
    reader.join()
    assert b"".join(found) == b"".join(lines)


def test_a_reader_that_has_gone_is_known_and_nothing_fails(pipe: Pipe) -> None:
    os.close(pipe[0])
    terminal = Terminal(pipe[1])
    terminal.put(b"line\n")
    assert not terminal.close(b"end\n")
    assert isinstance(terminal.lost, BrokenPipeError)
    terminal.put(b"more\n")


def test_a_full_disk_is_known_and_nothing_fails() -> None:
    descriptor = os.open("/dev/full", os.O_WRONLY)
    terminal = Terminal(descriptor)
    assert not terminal.close(b"end\n")
    assert terminal.lost is not None and terminal.lost.strerror == "No space left on device"
    os.close(descriptor)


class Unfinished:
    """Two lines without an end, until they have been seen."""

    def footer(self, columns: int) -> list[bytes]:
        return [b"node1 50%", b"node2 51%"]

    def overdue(self) -> list[bytes]:
        return [b"node1 50%\n"]


def test_lines_without_an_end_stand_below_and_are_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    master, slave = pty.openpty()
    tty.setraw(slave)
    terminal = Terminal(slave)
    terminal.attach(Unfinished())
    text = b""
    while b"node2 51%" not in text:
        text += os.read(master, 4096)
    terminal.put(b"a line\n")
    while b"a line\n" not in text:
        text += os.read(master, 4096)
    assert terminal.close(b"end\n")
    while not text.endswith(b"end\n"):
        text += os.read(master, 4096)
    erase = b"\r\x1b[1A\x1b[J"
    assert erase + b"a line\n" in text
    assert text.endswith(erase + b"end\n")
    os.close(slave)
    os.close(master)


@pytest.mark.parametrize("term", ["dumb", "xterm"])
def test_a_pipe_gets_no_cursor_movement(term: str, pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", term)
    terminal = Terminal(pipe[1])
    terminal.attach(Unfinished())
    text = b""
    while b"node1 50%\n" not in text:
        text += os.read(pipe[0], 4096)
    terminal.close(b"end\n")
    assert b"\x1b" not in text


def test_somebody_elses_nonblocking_descriptor_loses_nothing(pipe: Pipe) -> None:
    os.set_blocking(pipe[1], False)
    terminal = Terminal(pipe[1])
    for _ in range(2000):
        terminal.put(b"x" * 99 + b"\n")
    found: list[bytes] = []
    reader = read_all(pipe[0], found)
    assert terminal.close(timeout=60)
    os.close(pipe[1])
    reader.join()
    assert len(b"".join(found)) == 200_000


def test_a_slow_reader_gets_the_last_lines(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clusterctl.cli.terminal._SLOW", 0.0)
    terminal = Terminal(pipe[1])
    for number in range(20_000):
        terminal.put(b"%099d\n" % number)
    found: list[bytes] = []

    def slowly() -> None:
        while data := os.read(pipe[0], 4096):
            found.append(data)
            time.sleep(0.001)

    reader = threading.Thread(target=slowly, daemon=True)
    reader.start()
    assert terminal.close(b"the end\n", timeout=60)
    os.close(pipe[1])
    reader.join()
    text = b"".join(found).decode()
    assert text.endswith(f"{19_999:099}\nthe end\n")
    assert "lines skipped here, all in logs/" in text
