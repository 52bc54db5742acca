"""The ends of ranks and hosts: how long they are waited for, and never without an end of that. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from clusterctl.messages.events import LeftProcess
from clusterctl.report.findings import brief
from clusterctl.run.actions import Action, Say, StopHosts
from clusterctl.run.states import HostRecord
from clusterctl.settings import RunDefaults

_SHOWN_PROCESSES = 3


class Completion:
    """A host owes two things: the word that nothing of the run is left on it, and its logs.

    Marks in ``hosts`` who is no longer waited for: `HostRecord.unconfirmed` without that word,
    `HostRecord.complete` without all logs. Times are those of the machine's clock.
    """

    def __init__(self, hosts: Sequence[HostRecord], defaults: RunDefaults) -> None:
        self.grace = 0.0
        """Seconds from TERM to KILL by the last order."""
        self._hosts = hosts
        self._defaults = defaults
        self._hurried: float | None = None
        self._given_up = False
        self._ordered = False
        """Since the last `watch`."""
        self._confirm_by: float | None = None
        self._all_exited: float | None = None

    def hurry(self, now: float) -> None:
        """Somebody waits for the end, or the time is over: logs have the grace and a while, no more."""
        if self._hurried is None:
            self._hurried = now

    def give_up(self) -> None:
        """Nobody is waited for: what they still owe has not come."""
        self._given_up = True

    def ordered(self, grace: float) -> None:
        """All hosts were told to stop. A second order may only shorten the wait."""
        self.grace = grace
        self._ordered = True

    def stood_still(self, gap: float) -> None:
        """This machine did, for ``gap`` seconds: no host was late in that time."""
        if self._all_exited is not None:
            self._all_exited += gap
        if self._confirm_by is not None:
            self._confirm_by += gap
        if self._hurried is not None:
            self._hurried += gap

    @property
    def all_exited(self) -> bool:
        """Whether every rank has ended, however it did."""
        return all(host.exited for host in self._hosts)

    def awaited(self, *, stopping: bool) -> str:
        """What the end of the run waits for now, in words; empty while it does not end."""
        if not (stopping or self.all_exited):
            return ""
        left = [host for host in self._hosts if not host.over]
        running = [host.host for host in left if not host.ended]
        if running:
            # An engine may wait for others' ranks: those are what is waited for.
            running = [host.host for host in left if not (host.ended or host.exited)] or running
            grace = f", {self.grace:g} s to save" if self.grace and not self.all_exited else ""
            return f"waiting for {brief(running)} to end{grace}"
        return f"waiting for the logs of {brief(host.host for host in left)}" if left else ""

    def watch(self, now: float, *, stopping: bool) -> list[Action]:
        """Time has passed."""
        limits = self._defaults
        actions = [] if stopping else self._note_early_ends(now)
        if self._all_exited is None and self.all_exited:
            self._all_exited = now
        if not stopping and self._all_exited is not None and self._confirm_by is None:
            late = tuple(n for n, host in enumerate(self._hosts) if not (host.over or host.ended))
            if late and now - self._all_exited > limits.stop_grace:
                self._confirm_by = now + limits.confirm_timeout
                actions.append(StopHosts(late, 0.0, "every rank has ended"))
        if self._ordered:
            self._ordered = False
            self._confirm_by = min(self._confirm_by or math.inf, now + self.grace + limits.confirm_timeout)
        for host in self._hosts:
            if host.over:
                continue
            if host.ended and self._logs_are_late(host, now):
                host.complete = True
                actions.append(Say(f"{host.host}: not all of its logs have come"))
            elif not host.ended and (self._given_up or now > (self._confirm_by or math.inf)):
                host.unconfirmed = True
                actions.append(
                    Say(f"not confirmed on {host.host}: it has not said that nothing is left there")
                )
        return actions

    def _note_early_ends(self, now: float) -> list[Action]:
        """Of ranks that ended with 0 some time ago, while others still run."""
        actions: list[Action] = []
        for host in self._hosts:
            for rank, since in list(host.early.items()) if host.early else ():
                if now - since > self._defaults.early_exit_note:
                    del host.early[rank]
                    running = sum(len(each.ranks) - len(each.exits) for each in self._hosts)
                    if running:
                        others = "1 rank still runs" if running == 1 else f"{running} ranks still run"
                        actions.append(Say(f"{host.host}: rank {rank} ended with 0 while {others}"))
        return actions

    def _logs_are_late(self, host: HostRecord, now: float) -> bool:
        if self._given_up or now - host.progress > self._defaults.log_timeout:
            return True
        if self._hurried is None or self._confirm_by is None:
            return False
        grace_over = self._confirm_by - self._defaults.confirm_timeout
        return now > max(grace_over, host.ended_at, self._hurried) + self._defaults.log_grace


def survivors(processes: Sequence[LeftProcess], count: int) -> str:
    """``count`` processes that SIGKILL did not end, for the operator."""
    shown = [f"{each.pid} {each.command}" for each in processes[:_SHOWN_PROCESSES]]
    more = count - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def let_alone(host: str, strays: Sequence[LeftProcess]) -> list[Action]:
    """What nobody may end who does not know whose it is."""
    if not strays:
        return []
    kill = f"clusterctl exec -i {host} -- kill {' '.join(str(each.pid) for each in strays)}"
    why = "in the run's directory, but without its mark, and let alone"
    return [Say(f"{host}: {survivors(strays, len(strays))}: {why}; if it is the run's: {kill}")]
