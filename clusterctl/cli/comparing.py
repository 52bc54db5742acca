"""What `clusterctl compare` shows while it runs: on stderr: a line for each trial, and how the newest is."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType

from clusterctl.advise.compare.model import Trial
from clusterctl.cli import screen
from clusterctl.report.compare import trial_line
from clusterctl.report.harmless import last_state, plain_output
from clusterctl.run.display import Display
from clusterctl.session.compare import Comparing, Listener

_AGAIN = 0.2
_STANDING = 1.0
"""A line that stands for so many seconds says for how long."""


class Screen(Listener):
    """For one comparison, as a context manager."""

    def __init__(self, comparing: Comparing) -> None:
        self._comparing = comparing
        self._status = Status(sys.stderr.isatty())

    def __enter__(self) -> Screen:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._status.end()

    def begins(self, strategy: str, repetition: int, number: int, of: int) -> Display:
        self._status.begin(f"{number} of {of}: {strategy}")
        return self._status

    def ended(self, trial: Trial) -> None:
        self._status.end()
        line = trial_line(trial, self._comparing.record)
        screen.err().print(line, style="" if trial.ending == "measured" else "red")


class Status(Display):
    """One line that is written over, where there is a terminal: what is awaited, or printed last, and since
    when. A thread of its own writes it: a terminal that takes nothing must not hold the run up."""

    def __init__(self, seen: bool) -> None:
        self._seen = seen
        self._changed = threading.Condition()
        self._name = self._text = ""
        self._since = 0.0

    def begin(self, name: str) -> None:
        """Show what follows behind ``name``, until the `end`; before it, another has the line."""
        with self._changed:
            self._name, self._text = name, ""
        if self._seen:
            threading.Thread(target=self._go_on, args=(name,), name="status", daemon=True).start()

    def end(self) -> None:
        """Make room for a line that stays."""
        with self._changed:
            if self._text and self._seen:
                sys.stderr.write("\r\x1b[2K")
                sys.stderr.flush()
            self._name = self._text = ""
            self._changed.notify_all()

    def awaiting(self, text: str) -> None:
        self._show(text)

    def ending(self, text: str) -> None:
        self._show(text)

    def output(self, host: str, name: str, data: bytes) -> None:
        if name.startswith("rank-0") and (lines := data.splitlines()):
            self._show(plain_output(last_state(lines[-1]), colours=False))

    def line(self, width: int, now: float) -> str:
        """What stands there now, in so many columns."""
        from rich.cells import set_cell_size

        name, text, since = self._name, self._text, self._since
        stood = f" ({now - since:.0f} s)" if now - since >= _STANDING else ""
        shown = f"{name}  {text}".expandtabs(1)
        return set_cell_size(shown, max(0, width - len(stood))).rstrip() + stood

    def _show(self, text: str) -> None:
        if text and text != self._text:
            self._text, self._since = text, time.monotonic()

    def _go_on(self, name: str) -> None:
        written = ""
        while True:
            with self._changed:
                if self._name != name:
                    return
                line = self.line(screen.err().width - 1, time.monotonic()) if self._text else ""
                if line != written:
                    sys.stderr.write(f"\r\x1b[2K\x1b[2m{line}\x1b[0m")
                    sys.stderr.flush()
                    written = line
                self._changed.wait(_AGAIN)
