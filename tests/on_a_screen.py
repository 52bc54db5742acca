"""A program on a terminal of its own, and what a person would see there."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import pyte

PATIENCE = 60.0
_BLOCK = 1 << 16


class _Screen(pyte.Screen):
    bells = 0

    def bell(self, *_: object) -> None:
        self.bells += 1


class OnAScreen:
    """``python -m clusterctl WORDS`` in a pty. As a context manager it is ended with the block."""

    def __init__(
        self,
        words: Sequence[str],
        *,
        columns: int,
        lines: int = 24,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.screen = _Screen(columns, lines)
        self.bytes = 0
        """What was written to the terminal."""
        self._stream = pyte.ByteStream(self.screen)
        self.pid, self._master = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
            # readline sets COLUMNS and LINES, behind Python's back in its own process.
            own = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
            if cwd is not None:
                os.chdir(cwd)
            its = {**own, "TERM": "xterm-256color", **(env or {})}
            os.execve(sys.executable, [sys.executable, "-m", "clusterctl", *words], its)
        self.settings_before = self.settings
        self._code: int | None = None

    @property
    def display(self) -> list[str]:
        return [line.rstrip() for line in self.screen.display]

    def look(self, seconds: float = 0.1) -> list[str]:
        """Read what comes in so many seconds at most; the screen then."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if select.select([self._master], [], [], left)[0]:
                try:
                    data = os.read(self._master, _BLOCK)
                except OSError:  # everybody who had it open has ended
                    break
                self.bytes += len(data)
                self._stream.feed(data)
        return self.display

    def wait_for(self, *texts: str, without: str = "") -> list[str]:
        """Until all of them are on the screen, and ``without`` is not."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            shown = "\n".join(self.look())
            if all(text in shown for text in texts) and not (without and without in shown):
                return self.display
        raise AssertionError(f"{texts} are not all there:\n" + "\n".join(self.display))

    @property
    def settings(self) -> list[object]:
        """Those of the terminal."""
        return termios.tcgetattr(self._master)

    def kill(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def press(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def end(self) -> int:
        """Read on until it has ended; its exit code."""
        until = time.monotonic() + PATIENCE
        while self._code is None and time.monotonic() < until:
            self.look()
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            self._code = os.waitstatus_to_exitcode(status) if ended else None
        self.look()
        assert self._code is not None, "it does not end"
        return self._code

    def __enter__(self) -> OnAScreen:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._code is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self._master)
