"""The program of a controller in a process of its own. `launch --detach` and `attach` begin it: no verb.

Its arguments are the run and the descriptor of the pipe that its news go to; its orders come through its
standard input, its other output is the run's ``controller.log``. No terminal is part of its session.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clusterctl.run.attempts import Attempts
    from clusterctl.session.run import Run

_FAULT = 125


class _Signals:
    """What signals and second thoughts mean to the run, also those that come before it is supervised."""

    def __init__(self) -> None:
        self._run: Run | Attempts | None = None
        self._waiting: deque[int] = deque()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, self.take)

    def hold(self, run: Run | Attempts) -> None:
        self._run = run
        self._hand_on()

    def take(self, number: int, _: object = None) -> None:
        self._waiting.append(number)
        self._hand_on()

    def _hand_on(self) -> None:
        while self._run is not None and self._waiting:
            number = self._waiting.popleft()
            if number in (signal.SIGUSR1, signal.SIGUSR2):
                self._run.hand_on(number)
            elif number == signal.SIGTERM:
                self._run.leave(number)
            else:
                self._run.interrupt(number)


def main() -> int:
    """Its exit code is for nobody but a test: 0, or 125 for a fault."""
    signals = _Signals()
    run, descriptor = sys.argv[1], int(sys.argv[2])
    os.set_inheritable(descriptor, False)
    sys.path.append(sys.path.pop(0))  # -m has put our own place first, before Python's

    from clusterctl import __version__
    from clusterctl.cli import streams
    from clusterctl.cli.fault import explain
    from clusterctl.errors import ClusterctlError
    from clusterctl.run.leaving import LeftAlone
    from clusterctl.session.controller import Broke, Interrupt, Start, TakeOver
    from clusterctl.session.controlling import NewsPipe, carry_out
    from clusterctl.store.home import home
    from clusterctl.store.runs import RunDirectory

    streams.settle()
    directory = RunDirectory(home() / "runs" / run)
    news = NewsPipe(descriptor)
    orders = os.fdopen(os.dup(0), "rb")
    try:
        order: Start | TakeOver = pickle.load(orders)
        if isinstance(order, Start):
            os.chdir(order.cwd)

        def hear_second_thoughts() -> None:
            with contextlib.suppress(EOFError):  # who began this has gone
                while True:
                    thought: Interrupt = pickle.load(orders)
                    if not news.is_up:
                        signals.take(thought.number)

        threading.Thread(target=hear_second_thoughts, name="orders", daemon=True).start()
        carry_out(directory, order, news, signals.hold, lambda text: print(text, file=sys.stderr))
        return 0
    except LeftAlone as left:
        print(left, file=sys.stderr)
        return left.exit_code
    except Exception as error:  # noqa: BLE001 (nobody but the log and who began it can be told)
        known = error if isinstance(error, ClusterctlError) else explain(error, __version__, "controller")
        print(known, file=sys.stderr)
        with contextlib.suppress(OSError):
            said = f"its controller failed: {known.message}; {known.hint}"
            directory.append_event({"event": "say", "time": time.time(), "text": said})
        news.tell(Broke(known.message, known.hint))
        return _FAULT
    finally:
        news.close()


if __name__ == "__main__":
    sys.exit(main())
