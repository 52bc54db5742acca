"""The program `clusterctl` out of a process that has loaded it already: a command costs no start of python.

For commands of which no fault knows. Those that rounds send signals to, or limit, are started as users start
them.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from typing import NoReturn


class Loaded:
    """A command that runs in a child of this process. ``timeout`` seconds after its start it is killed."""

    def __init__(self, words: Sequence[str], environment: Mapping[str, str], timeout: float) -> None:
        self._until = time.monotonic() + timeout
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 (until it is collected)
        sys.stdout.flush()
        sys.stderr.flush()
        self._pid = os.fork()
        if self._pid == 0:
            self._become(words, environment)

    def _become(self, words: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
        code: object = 125
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            nothing = os.open(os.devnull, os.O_RDONLY)
            for ours, theirs in ((nothing, 0), (self._said.fileno(), 1), (self._said.fileno(), 2)):
                os.dup2(ours, theirs)
            os.environ.clear()
            os.environ.update(environment)
            sys.argv = ["clusterctl", *words]
            from clusterctl.cli.main import entry

            entry()
        except SystemExit as end:
            code = end.code
        except BaseException:  # noqa: BLE001 (what would be the last of any program)
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code if isinstance(code, int) else 125)

    def wait(self) -> tuple[int, str]:
        """Its exit code, and what it printed. Raises TimeoutError."""
        while os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            if time.monotonic() > self._until:
                os.kill(self._pid, signal.SIGKILL)
                os.waitpid(self._pid, 0)
                raise TimeoutError(self._text()[-300:])
            time.sleep(0.05)
        _, status = os.waitpid(self._pid, 0)
        return os.waitstatus_to_exitcode(status), self._text()

    def _text(self) -> str:
        self._said.seek(0)
        return self._said.read().decode(errors="replace")


def load() -> None:
    """Load what the commands of a round need, before any of them is asked."""
    for name in (
        "cli.app",
        "cli.screen",
        "cli.sweep",
        "cli.why",
        "session.sweep",
        "session.why",
        "transport.fabric",
    ):
        importlib.import_module(f"clusterctl.{name}")
    from clusterctl.cli.verbs import Verbs

    for place in Verbs.places.values():
        importlib.import_module(f"clusterctl.cli.{place.partition('.')[0]}")
