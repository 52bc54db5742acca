"""Whether a run that did not succeed is tried again. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from clusterctl.store.outcome import Attempt, Cause, Outcome

_TRIED_AGAIN = ("failed", "lost", "hung", "error")
_STUCK = 3
"""So many attempts in a row that come no further are one too many."""
_PORTS = 5
"""So many attempts in a row find the port of the rendezvous taken, and no more."""
_TAKEN = ("eaddrinuse", "address already in use")


class Again(msgspec.Struct, frozen=True):
    """Another attempt follows, the ``number``-th. ``why`` is for the operator."""

    number: int
    why: str


class Over(msgspec.Struct, frozen=True):
    """This was the last attempt. ``why`` is empty where nobody would ask."""

    why: str = ""


def decide(attempts: Sequence[Attempt], *, max_restarts: int) -> Again | Over:
    """``attempts`` so far, with the one that has just ended."""
    last = attempts[-1]
    if last.status not in _TRIED_AGAIN:
        return Over()
    number = last.attempt + 1
    if last.free:
        if all(each.free for each in attempts[-_PORTS:]) and len(attempts) >= _PORTS:
            return Over(f"the port of the rendezvous was taken in {_PORTS} attempts in a row")
        return Again(number, "somebody had taken the port of the rendezvous")
    if max_restarts == 0:
        return Over()
    if (stuck := _no_progress(attempts)) is not None:
        return stuck
    done = restarts(attempts)
    if done >= max_restarts:
        return Over(f"all {max_restarts} restarts are used up" if done > 1 else "the only restart is used up")
    return Again(number, f"restart {done + 1} of {max_restarts}")


def restarts(attempts: Sequence[Attempt]) -> int:
    """How many of them followed a failure of the run's own."""
    return sum(not each.free for each in attempts[:-1])


def finished(outcome: Outcome, attempts: Sequence[Attempt], *, no_restart: str = "") -> Outcome:
    """The outcome of the whole run: that of its last attempt, with all that came before. What a host that was
    given up left behind is still not known."""
    left: dict[str, int | None] = {}
    for each in attempts:
        left |= each.left_behind
    return msgspec.structs.replace(
        outcome,
        left_behind=left | outcome.left_behind,
        restarts=restarts(attempts),
        attempts=tuple(attempts),
        no_restart=no_restart,
    )


def is_port_taken(text: str, port: int) -> bool:
    """Whether what an engine or a rank said is that it cannot listen on ``port``: another port is meant by
    many an error of the same name."""
    lower = text.lower()
    return str(port) in lower and any(sign in lower for sign in _TAKEN)


def _no_progress(attempts: Sequence[Attempt]) -> Over | None:
    """Attempts that end at one step again and again do so for a reason that none of them will cure."""
    newest = [each for each in attempts if not each.free][-_STUCK:]
    if len(newest) < _STUCK or len({each.resumed for each in newest}) > 1:
        return None
    steps = {each.last_step for each in newest}
    if len(steps) > 1:
        return None
    (step,) = steps
    if step is not None:
        return Over(f"{_STUCK} attempts in a row came to step {step} and no further")
    # Without steps to go by: only what the script or its engine does by itself, and in the same way.
    ends = {_same(each.cause) for each in newest}
    if len(ends) > 1 or None in ends:
        return None
    return Over(f"{_STUCK} attempts in a row ended in the same way, without a step in their logs")


def _same(cause: Cause | None) -> tuple[object, ...] | None:
    if cause is None or cause.kind in ("lost", "signal", "oom", "hang"):
        return None
    return (cause.kind, cause.exit_code, cause.rank, cause.message)
