"""A run that goes on while the caller does something else."""

from __future__ import annotations

import atexit
import threading
import weakref
from collections import deque
from types import TracebackType

from clusterctl.errors import UsageError
from clusterctl.plan.model import LaunchPlan
from clusterctl.report.hosts import software
from clusterctl.report.html.record import SOFTWARE, HostSoftware
from clusterctl.run.attempts import Attempts
from clusterctl.run.display import Display
from clusterctl.run.fetch import LogFetch
from clusterctl.run.operator import BY_PROGRAM
from clusterctl.session import tracking
from clusterctl.session.attempting import Attempting, followed
from clusterctl.session.ending import conclude
from clusterctl.session.hosts import transport_of
from clusterctl.session.intent import Ready, write_down
from clusterctl.session.launch import Prepared
from clusterctl.session.recorded import RecordedRun
from clusterctl.settings import RUN
from clusterctl.store.outcome import Outcome
from clusterctl.store.runs import RunDirectory
from clusterctl.transport import Transport

_LOOK = 0.1
_LEAVING = RUN.stop_grace + 15.0
_unfinished: weakref.WeakSet[Run] = weakref.WeakSet()


class Run(RecordedRun):
    """One run on all hosts, supervised by a thread of this process.

    As a context manager it is stopped at the end of the block. When this process ends, its runs are stopped,
    with the grace for scripts to save, unless they were launched with ``on_disconnect="continue"``.
    """

    def __init__(self, ready: Ready, link: Transport, directory: RunDirectory) -> None:
        """Nothing is started. ``link`` belongs to the run from here on."""
        super().__init__(directory)
        self._ready = ready
        self._link = link
        self._over = threading.Event()
        self._settled = threading.Event()
        self.on_end_said: deque[str] = deque()
        """What is to be said of ``--on-end``, as it comes."""
        self._outcome: Outcome | None = None
        self._error: BaseException | None = None
        self._attempts: Attempts | None = None
        self._early: int | None = None
        """The signal that asked for its end before there was anything to end."""

    @property
    def plan(self) -> LaunchPlan:
        """That of the newest attempt."""
        return self._ready.plan if self._attempts is None else self._attempts.plan

    def start(self, display: Display | None = None) -> None:
        """Start all ranks. ``display`` is told what the run says, in the supervising thread."""
        attempting = Attempting(self._directory, self._link, self._ready)
        display = display or Display()
        self._attempts = attempting.attempts(self._ready.plan, display)
        if self._early is not None:
            self._attempts.interrupt(self._early)
        tracking.begin(self._directory, self._ready.plan, display)
        _unfinished.add(self)
        threading.Thread(target=self._supervise, name=f"run {self.id}", daemon=True).start()

    def _supervise(self) -> None:
        assert self._attempts is not None
        try:
            self._outcome = self._attempts.run()
        except BaseException as error:  # noqa: BLE001 (whoever waits is to be told, not this thread's stderr)
            self._error = error
        finally:
            self._over.set()
            self._link.close()
            try:
                if self._outcome is not None:
                    say = self.on_end_said.append
                    conclude(self.plan, self._directory, self._outcome, say, unwritten=self.unwritten)
            finally:
                self._settled.set()
                _unfinished.discard(self)

    @property
    def outcome(self) -> Outcome | None:
        """How it ended; None while it goes on."""
        return self._outcome

    def _pause(self) -> bool:
        return self._over.wait(_LOOK)

    def wait(self, timeout: float | None = None) -> Outcome:
        """Until it is over. Raises TimeoutError after ``timeout`` seconds; the run goes on then, as it does
        after KeyboardInterrupt. A run that fails is an outcome, no exception."""
        if not self._over.wait(timeout):
            raise TimeoutError(f"run {self.id} goes on after {timeout:g} s")
        if self._error is not None:
            raise self._error
        assert self._outcome is not None
        return self._outcome

    def settle(self, timeout: float | None = None) -> bool:
        """After its end: wait for what ``on_end`` wants done, which has its limit; whether that is over."""
        return self._settled.wait(timeout)

    def interrupt(self, number: int = BY_PROGRAM) -> None:
        """Ask it to end, without waiting: the first time scripts get their grace, after that they are ended.

        For signal handlers: ``number`` is the signal that asks, and the outcome tells it.
        """
        if self._attempts is not None:
            self._attempts.interrupt(number)
        else:
            self._early = number

    def leave(self, number: int = BY_PROGRAM) -> None:
        """Let it go on without this process, where its hosts were told to: `wait` raises LeftAlone then.
        Elsewhere as `interrupt`. For signal handlers."""
        if self._attempts is not None:
            self._attempts.leave(number)
        else:
            self._early = number

    def hand_on(self, number: int) -> None:
        """Send SIGUSR1 or SIGUSR2 to every rank. For signal handlers."""
        if self._attempts is not None:
            self._attempts.hand_on(number)

    @property
    def disk_answers(self) -> bool:
        """False where the run directory's disk hung at the end: whoever reads there may wait for ever."""
        return self._attempts is None or self._attempts.disk_answers

    @property
    def unwritten(self) -> str:
        """Why the outcome could not be written to disk here; empty when it was."""
        return self._attempts.unwritten if self._attempts is not None else ""

    def stop(self, *, now: bool = False) -> Outcome:
        """End it on all hosts and wait for that. Scripts get 30 s to save, with ``now`` none. What is over
        already stays as it ended."""
        if not self._over.is_set():
            self.interrupt()
            if now:
                self.interrupt()
        return self.wait()

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = self._outcome.status if self._outcome else "ended by a fault" if self._error else "running"
        return f"<Run {self.id}: {state}>"


def make_directory(prepared: Prepared) -> RunDirectory:
    """Of a run that is about to start. Raises ClusterctlError where this machine cannot hold it."""
    directory = RunDirectory.create(prepared.plan)
    directory.claim()  # so that no `attach` takes it for one without a controller
    directory.write("findings.json", prepared.examination.report.findings)
    write_down(directory, prepared.ready)
    answers = prepared.examination.answers
    has = [HostSoftware(host=host, has=software(told)) for host, told in answers.facts.items()]
    directory.write(SOFTWARE, has)
    return directory


def take_over(directory: RunDirectory, display: Display) -> Outcome:
    """Go to the hosts of a run whose controller is dead, to end it. The caller holds the claim, and sees to
    ``on_end`` when it has told the outcome."""
    with followed(directory, display) as run:
        return run.take_over("stop")


def fetch_logs(directory: RunDirectory, display: Display) -> dict[str, str]:
    """Bring those logs of a run, of all its attempts, from its hosts that were not complete here when they
    ended. Returns host -> why its logs still are not. Raises UsageError for a run that is not over."""
    plan, outcome = directory.plan(), directory.outcome()
    if outcome is None:
        hint = f"its logs come by themselves while it runs; clusterctl stop {plan.run} ends it"
        raise UsageError(f"run {plan.run} is not over", hint=hint)
    if not outcome.incomplete_anywhere:
        return {}
    problems: dict[str, str] = {}
    link = transport_of(plan)
    try:
        for attempt in range(plan.attempt, 0, -1):
            if outcome.incomplete_in(attempt):
                fetch = LogFetch(directory.plan(attempt), outcome, link, directory, display)
                outcome = fetch.carry_out()
                problems |= fetch.problems
    finally:
        link.close()
    return problems


@atexit.register
def _leave() -> None:
    """Stop what still runs when this process ends, unless it is to outlive it by its lease."""
    left = list(_unfinished)
    for run in left:
        run.leave()
    try:
        for run in left:
            run._over.wait(_LEAVING)
            run.settle(RUN.on_end_timeout)
    except KeyboardInterrupt:
        for run in left:
            run.interrupt()
            run._over.wait(_LEAVING)
