"""A run that goes on while the caller does something else."""

from __future__ import annotations

import atexit
import getpass
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import TracebackType

from clusterctl.errors import UsageError
from clusterctl.plan.model import LaunchPlan
from clusterctl.run import on_end
from clusterctl.run.attempts import Attempts, Conclude
from clusterctl.run.display import Display
from clusterctl.run.fetch import LogFetch
from clusterctl.run.launcher import DeepSpeedLauncher
from clusterctl.run.operator import BY_PROGRAM
from clusterctl.run.supervise import Supervisor
from clusterctl.session.again import prepare_again
from clusterctl.session.hosts import transport_of
from clusterctl.session.launch import Prepared, Ready
from clusterctl.session.recorded import RecordedRun
from clusterctl.settings import RUN
from clusterctl.store.outcome import Attempt, Outcome
from clusterctl.store.runs import RunDirectory
from clusterctl.transport import Transport

_LOOK = 0.1
_STDIN = 0
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

    @property
    def plan(self) -> LaunchPlan:
        """That of the newest attempt."""
        return self._ready.plan

    def start(self, display: Display | None = None) -> None:
        """Start all ranks. ``display`` is told what the run says, in the supervising thread."""
        self._attempts = Attempts(
            self.plan,
            self._directory,
            display or Display(),
            self._supervisor,
            None if self._ready.intent.options.stdin else self._prepare_again,  # what was read is gone
            max_restarts=self._ready.intent.options.max_restarts,
        )
        _unfinished.add(self)
        threading.Thread(target=self._supervise, name=f"run {self.id}", daemon=True).start()

    def _supervisor(
        self,
        plan: LaunchPlan,
        display: Display,
        *,
        spent: float,
        in_place: dict[str, bool],
        conclude: Conclude,
    ) -> Supervisor:
        return _supervisor(
            plan,
            display,
            link=self._link,
            directory=self._directory,
            ready=self._ready,
            spent=spent,
            in_place=in_place,
            conclude=conclude,
        )

    def _prepare_again(self, _: LaunchPlan, ended: tuple[Attempt, ...]) -> LaunchPlan:
        self._ready = prepare_again(self._ready.intent, self._link, ended)
        return self._ready.plan

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
                    on_end.carry_out(self.plan, self._directory, self._outcome, say, unwritten=self.unwritten)
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

    def leave(self, number: int = BY_PROGRAM) -> None:
        """Let it go on without this process, where its hosts were told to: `wait` raises LeftAlone then.
        Elsewhere as `interrupt`. For signal handlers."""
        if self._attempts is not None:
            self._attempts.leave(number)

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
    return directory


def take_over(directory: RunDirectory, display: Display) -> Outcome:
    """Go to the hosts of a run whose controller is dead, to end it. The caller holds the claim, and sees to
    ``on_end`` when it has told the outcome."""
    with followed(directory, display) as run:
        return run.take_over("stop")


@contextmanager
def followed(directory: RunDirectory, display: Display) -> Iterator[Attempts]:
    """A run whose controller is dead, to be taken over."""
    plan = directory.plan()
    link = transport_of(plan)
    supervise = partial(_supervisor, link=link, directory=directory)
    try:
        yield Attempts(plan, directory, display, supervise, None, ended=directory.ended_attempts())
    finally:
        link.close()


def fetch_logs(directory: RunDirectory, display: Display) -> dict[str, str]:
    """Bring those logs of a run from its hosts that were not complete here when it ended. Returns host -> why
    its logs still are not. Raises UsageError for a run that is not over."""
    plan, outcome = directory.plan(), directory.outcome()
    if outcome is None:
        hint = f"its logs come by themselves while it runs; clusterctl stop {plan.run} ends it"
        raise UsageError(f"run {plan.run} is not over", hint=hint)
    if not outcome.incomplete_logs:
        return {}
    link = transport_of(plan)
    try:
        fetch = LogFetch(plan, outcome, link, directory, display)
        fetch.carry_out()
    finally:
        link.close()
    return fetch.problems


def _supervisor(
    plan: LaunchPlan,
    display: Display,
    *,
    link: Transport,
    directory: RunDirectory,
    ready: Ready | None = None,
    spent: float,
    in_place: dict[str, bool],
    conclude: Conclude,
) -> Supervisor:
    launcher: Callable[[LaunchPlan], DeepSpeedLauncher] | None = None
    if ready is not None and plan.start == "deepspeed-pdsh":
        config = ready.intent.target.hosts.ssh_config

        def launcher(wanted: LaunchPlan) -> DeepSpeedLauncher:
            return DeepSpeedLauncher(wanted, directory.logs / wanted.launcher_log, config)

    return Supervisor(
        plan,
        ready.intent.workload.tree if ready else None,
        link,
        directory,
        clock_offsets=ready.clock_offsets if ready else {},
        owner=getpass.getuser(),
        display=display,
        launcher=launcher,
        stdin=_STDIN if ready is not None and ready.intent.options.stdin else None,
        spent=spent,
        in_place=in_place,
        conclude=conclude,
    )


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
