"""A controller in a process of its own: what it is told to do, and what it tells whoever began it.

The orders travel through its standard input, pickled by the program that reads them, so that nothing of them
(variables, for one) is in an argument or a file. The news go through a pipe that may be full or closed: the
run never waits for who reads it.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue

import msgspec

from clusterctl.errors import ClusterctlError
from clusterctl.run.operator import BY_PROGRAM
from clusterctl.session.intent import Ready
from clusterctl.store.claims import Claim
from clusterctl.store.outcome import Outcome
from clusterctl.store.runs import RunDirectory

_LOOK = 0.2
PROGRAM = "clusterctl.cli.controller"


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """Start this run, whose directory is there: with the values that the plan's file hides. ``cwd``: what
    relative paths in it begin at."""

    ready: Ready
    cwd: Path


class TakeOver(msgspec.Struct, frozen=True, kw_only=True):
    """Go on with a run whose controller is dead, or is ``instead_of`` and does nothing any more."""

    instead_of: Claim | None = None


class Interrupt(msgspec.Struct, frozen=True, kw_only=True):
    """End the run: who began it has had second thoughts, by this signal."""

    number: int


Order = Start | TakeOver | Interrupt


class Awaiting(msgspec.Struct, frozen=True, tag="awaiting"):
    """As `Display.awaiting`."""

    text: str


class Up(msgspec.Struct, frozen=True, tag="up"):
    """Every rank has started."""


class Held(msgspec.Struct, frozen=True, tag="held"):
    """Another process has the run already; this one does nothing."""

    by: Claim


class Over(msgspec.Struct, frozen=True, tag="over"):
    """How the run ended; ``unwritten``: why that is not in its directory."""

    outcome: Outcome
    unwritten: str = ""


class Broke(msgspec.Struct, frozen=True, tag="broke"):
    """It could not do what it was told."""

    message: str
    hint: str


News = Awaiting | Up | Held | Over | Broke


class Controller:
    """Such a process, as who began it sees it."""

    def __init__(self, directory: RunDirectory, order: Start | TakeOver) -> None:
        """Begin it: in a session of its own, which no terminal is part of. Raises OSError."""
        heard, speak = os.pipe()
        self._heard = heard
        log = os.open(directory.path / "controller.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", PROGRAM, directory.run, str(speak)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=Path(__file__).parents[2],  # -m looks there first
                pass_fds=(speak,),
                start_new_session=True,
            )
        finally:
            os.close(log)
            os.close(speak)
        if isinstance(order, Start):
            directory.claim(pid=self._process.pid)
        self._tell(order)
        self._news: SimpleQueue[News] = SimpleQueue()
        self._hearing = threading.Thread(target=self._hear, name="news", daemon=True)
        self._hearing.start()

    def interrupt(self, number: int) -> None:
        """End the run, unless it is up. For signal handlers."""
        self._tell(Interrupt(number=number))

    def news(self, timeout: float) -> News | None:
        """What it says next; None for nothing within ``timeout`` seconds."""
        try:
            return self._news.get(timeout=timeout)
        except Empty:
            return None

    def await_up(self) -> None:
        """Until every rank has started, or the run is over. An interrupt ends the run. Raises ClusterctlError
        where it could not be started."""
        try:
            while not self.ended:
                match self.news(_LOOK):
                    case Up() | Over():
                        return
                    case Broke(message, hint):
                        raise ClusterctlError(message, hint=hint)
        except KeyboardInterrupt:
            self.interrupt(BY_PROGRAM)
            raise

    @property
    def ended(self) -> bool:
        """Whether the process is over, and nothing comes from it any more."""
        return not self._hearing.is_alive() and self._news.empty() and self._process.poll() is not None

    def _tell(self, order: Order) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            pickle.dump(order, self._process.stdin)  # names of files need not be text
            self._process.stdin.flush()

    def _hear(self) -> None:
        with os.fdopen(self._heard, "rb") as stream:
            for line in stream:
                with suppress(msgspec.MsgspecError):
                    self._news.put(msgspec.json.decode(line, type=News))
