"""How a run ended, in one value; and the exit code that says it."""

from __future__ import annotations

from typing import Literal

import msgspec

Status = Literal["succeeded", "failed", "stopped", "lost", "refused", "timeout", "hung", "error"]
Standing = Literal["running", "interrupted", Status]
"""Of any run: how it ended, or that it has not; ``interrupted``: its controller died before it could say."""
CauseKind = Literal[
    "exit", "exception", "signal", "oom", "lost", "hang", "preflight", "operator", "timeout", "internal"
]

EXIT_REFUSED = 120
EXIT_LOST = 121
EXIT_HUNG = 122
EXIT_STOPPED = 123
EXIT_TIMEOUT = 124
EXIT_INTERNAL = 125


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    """What came first. ``rank`` is global; ``log`` is relative to the run directory. ``holder``: the
    run that holds the slots, where that is why."""

    kind: CauseKind
    message: str
    host: str = ""
    node_rank: int | None = None
    rank: int | None = None
    exit_code: int | None = None
    signal: int | None = None
    traceback: str = ""
    log: str = ""
    holder: str = ""


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt at a run, from its start to its proven end, which took ``seconds``. Steps are the first and
    the last that its logs tell of, None where they tell of none; ``resumed`` is the checkpoint it went on
    from, by name. ``free``: its port was taken by somebody else, which counts as no restart."""

    attempt: int
    status: Status
    exit_code: int
    cause: Cause | None = None
    hosts: tuple[str, ...] = ()
    seconds: float = 0.0
    first_step: int | None = None
    last_step: int | None = None
    resumed: str = ""
    free: bool = False
    left_behind: dict[str, int | None] = {}
    incomplete_logs: tuple[str, ...] = ()


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """What the ``seconds`` of a run went into: ``start`` until a first step is told of, in every attempt;
    ``detection`` from a failure to the order to stop, at most (``detection_at_most``) where it is counted
    from the last sign before; ``stop`` until all is over; ``lost`` on ``lost_steps`` that had to be done once
    more; the rest is ``productive``, by its ``share``. None: its logs tell of no steps."""

    seconds: float
    detection: float
    detection_at_most: bool = False
    stop: float
    start: float | None = None
    lost: float | None = None
    lost_steps: int | None = None
    productive: float | None = None
    share: float | None = None


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """``left_behind``: processes left on each host, None where a lost host could not be asked.

    ``collateral`` holds what failed because something else had failed before. ``incomplete_logs`` names
    hosts whose logs could not be checked to the last byte, ``cut_logs`` logs that were longer than their
    limit, such as ``node1/rank-0.log``, with how many bytes were cut out of each. What failed, what is left
    and ``incomplete_logs`` are those of the last of ``attempts``; ``seconds`` is the whole run. ``restarts``
    counts those attempts that followed a failure of the run itself, ``no_restart`` says why there was not
    another.
    """

    schema: Literal["clusterctl.outcome/1"] = "clusterctl.outcome/1"
    run: str
    status: Status
    exit_code: int
    cause: Cause | None = None
    collateral: tuple[Cause, ...] = ()
    left_behind: dict[str, int | None] = {}
    incomplete_logs: tuple[str, ...] = ()
    cut_logs: dict[str, int] = {}
    seconds: float = 0.0
    restarts: int = 0
    attempts: tuple[Attempt, ...] = ()
    no_restart: str = ""
    spent: Spent | None = None

    def incomplete_in(self, attempt: int) -> tuple[str, ...]:
        """Hosts whose logs of one attempt could not be checked to the last byte."""
        for each in self.attempts[:-1]:
            if each.attempt == attempt:
                return each.incomplete_logs
        return self.incomplete_logs

    @property
    def incomplete_anywhere(self) -> tuple[str, ...]:
        """The same of all attempts."""
        found = (host for each in self.attempts[:-1] for host in each.incomplete_logs)
        return tuple(dict.fromkeys((*self.incomplete_logs, *found)))

    def with_logs(self, attempt: int, incomplete: tuple[str, ...], cut_logs: dict[str, int]) -> Outcome:
        """The same where that is known of the logs of one attempt."""
        last = not self.attempts or self.attempts[-1].attempt == attempt
        return msgspec.structs.replace(
            self,
            incomplete_logs=incomplete if last else self.incomplete_logs,
            cut_logs=self.cut_logs | cut_logs,
            attempts=tuple(
                msgspec.structs.replace(each, incomplete_logs=incomplete) if each.attempt == attempt else each
                for each in self.attempts
            ),
        )
