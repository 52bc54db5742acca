"""The attempts at a run, by what it is to be: who supervises each, and how the next is planned."""

from __future__ import annotations

import getpass
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from clusterctl.plan.model import LaunchPlan
from clusterctl.run.attempts import Attempts, Conclude
from clusterctl.run.display import Display
from clusterctl.run.launcher import DeepSpeedLauncher
from clusterctl.run.past import Past
from clusterctl.run.supervise import Supervisor
from clusterctl.session.again import prepare_again
from clusterctl.session.hosts import transport_of
from clusterctl.session.intent import Ready, Recalled, write_down
from clusterctl.store.outcome import Attempt
from clusterctl.store.runs import RunDirectory
from clusterctl.transport import Transport

_STDIN = 0


class Attempting:
    """One run over one ``link``; without ``ready`` only a supervisor for what has been planned."""

    def __init__(self, directory: RunDirectory, link: Transport, ready: Ready | None) -> None:
        self._directory = directory
        self._link = link
        self._ready = ready

    def attempts(
        self, plan: LaunchPlan, display: Display, *, past: Past | None = None, without: str = ""
    ) -> Attempts:
        """As `Attempts` says."""
        options = self._ready.intent.options if self._ready is not None else None
        again = options is not None and not options.stdin and not without  # what was read is gone
        return Attempts(
            plan,
            self._directory,
            display,
            self._supervisor,
            self._replan if again else None,
            max_restarts=options.max_restarts if options is not None else 0,
            past=past,
            without=without,
        )

    def _replan(self, _: LaunchPlan, ended: tuple[Attempt, ...]) -> LaunchPlan:
        assert self._ready is not None
        self._ready = prepare_again(self._ready.intent, self._link, ended)
        write_down(self._directory, self._ready)
        return self._ready.plan

    def _supervisor(
        self,
        plan: LaunchPlan,
        display: Display,
        *,
        spent: float,
        in_place: dict[str, bool],
        conclude: Conclude,
    ) -> Supervisor:
        ready = self._ready
        launcher: Callable[[LaunchPlan], DeepSpeedLauncher] | None = None
        if ready is not None and plan.start == "deepspeed-pdsh":
            config = ready.intent.target.hosts.ssh_config

            def launcher(wanted: LaunchPlan) -> DeepSpeedLauncher:
                return DeepSpeedLauncher(wanted, self._directory.logs / wanted.launcher_log, config)

        return Supervisor(
            plan,
            ready.intent.workload.tree if ready else None,
            self._link,
            self._directory,
            clock_offsets=ready.clock_offsets if ready else {},
            owner=getpass.getuser(),
            display=display,
            launcher=launcher,
            stdin=_STDIN if ready is not None and ready.intent.options.stdin else None,
            spent=spent,
            in_place=in_place,
            conclude=conclude,
        )


@contextmanager
def followed(
    directory: RunDirectory, display: Display, recalled: Recalled | None = None
) -> Iterator[Attempts]:
    """A run whose controller is gone, to be taken over. It begins again after failures only as it was
    ``recalled``."""
    plan = directory.plan(directory.begun_attempt())
    link = transport_of(plan)
    ready = recalled.ready if recalled is not None else None
    without = recalled.without if recalled is not None else ""
    try:
        attempting = Attempting(directory, link, ready)
        yield attempting.attempts(plan, display, past=Past.of(directory, plan), without=without)
    finally:
        link.close()
