"""What `clusterctl compare` shows while it runs: on stderr: a line for each trial, and how the newest is."""

from __future__ import annotations

import sys
import time

from clusterctl.advise.compare.model import Trial
from clusterctl.cli import screen
from clusterctl.report.compare import trial_line
from clusterctl.report.harmless import last_state, plain_output
from clusterctl.run.display import Display
from clusterctl.session.compare import Comparing, Listener

_AGAIN = 0.2


class Screen(Listener):
    """For one comparison."""

    def __init__(self, comparing: Comparing) -> None:
        self._comparing = comparing
        self._status = Status(sys.stderr.isatty())

    def begins(self, strategy: str, repetition: int, number: int, of: int) -> Display:
        self._status.name = f"{number} of {of}: {strategy}"
        self._status.show("")
        return self._status

    def ended(self, trial: Trial) -> None:
        self._status.clear()
        line = trial_line(trial, self._comparing.record)
        screen.err().print(line, style="" if trial.ending == "measured" else "red")


class Status(Display):
    """One line that is written over, where there is a terminal: what is awaited, or printed last. A terminal
    that takes nothing must not hold the run up: a line that comes too soon after another is not shown."""

    def __init__(self, seen: bool) -> None:
        self._seen = seen
        self._last = 0.0
        self.name = ""

    def awaiting(self, text: str) -> None:
        self.show(text)

    def output(self, host: str, name: str, data: bytes) -> None:
        if name.startswith("rank-0") and (lines := data.splitlines()):
            self.show(plain_output(last_state(lines[-1]), colours=False))

    def show(self, text: str) -> None:
        now = time.monotonic()
        if self._seen and now - self._last >= _AGAIN:
            self._last = now
            width = screen.err().width - 1
            line = f"{self.name}  {text}".replace("\t", " ")[:width]
            sys.stderr.write(f"\r\x1b[2K\x1b[2m{line}\x1b[0m")
            sys.stderr.flush()

    def clear(self) -> None:
        """Make room for a line that stays."""
        if self._seen:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()
        self._last = 0.0
