"""Ctrl-C, from the first line of the program to its last."""

from __future__ import annotations

import atexit
import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

EXIT_INTERRUPTED = 130


class Interrupts:
    """The handler of SIGINT: the end with ``exit_code``, at once; while that is None, KeyboardInterrupt."""

    def __init__(self, exit_code: int | None = None) -> None:
        self.exit_code = exit_code
        self.came = False

    def install(self) -> None:
        """Call it before anything that takes long to load. Where the caller ignores SIGINT, so do we."""
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self)
        atexit.register(self._leave)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.exit_code is not None:
            os._exit(self.exit_code)
        self.came = True
        raise KeyboardInterrupt

    def _leave(self) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if not self.came:
            return
        # After a KeyboardInterrupt out of an exec(), of which every dataclass is made, python kills itself by
        # SIGINT in the end, although it was caught and whatever the exit code.
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(EXIT_INTERRUPTED if self.exit_code is None else self.exit_code)


def pressed() -> bool:
    """Whether Ctrl-C was, also where python has lost the exception: one that is raised in a callback of its
    own, as imports have them, goes nowhere."""
    handler = signal.getsignal(signal.SIGINT)
    return isinstance(handler, Interrupts) and handler.came


def settle_exit_code(code: int, handler: object) -> None:
    """From here on this process ends with ``code``, however often Ctrl-C is pressed. For a verb that has had
    SIGINT for itself, before it puts ``handler`` back; nothing happens outside the program `clusterctl`."""
    if isinstance(handler, Interrupts):
        handler.exit_code = code
