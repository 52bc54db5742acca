"""Which of several failures came first. Pure.

Three things blur the order. Clocks of hosts are read over SSH only so well. On a busy host a waiter sees
its rank end late, while the rank's peers see it at once; what a rank raised bears the time at which it was
raised. And some failures only follow from others, whatever their time: see `Weight`.
"""

from __future__ import annotations

import signal as signals
from collections.abc import Sequence
from enum import IntEnum

import msgspec

from clusterctl.messages.events import EngineExited, RankError, RankExited
from clusterctl.run.symptoms import blames_a_peer, is_memory, last_sentence
from clusterctl.store.outcome import Cause, CauseKind


class Weight(IntEnum):
    """What a failure can be blamed for. One of a lower number beats all of higher ones, at any time."""

    OWN = 0
    """It stands for itself."""
    DOUBTFUL = 1
    """It may follow from another: NCCL's watchdog aborts victims, an engine ends with its ranks, and what is
    raised while a peer's end is handled may be either's fault."""
    PEER = 2
    """It only says that a peer is gone."""
    TOLD = 3
    """It came after the order to end, ours or the engine's."""


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """One failure and when it happened, in the controller's clock (seconds since the epoch)."""

    cause: Cause
    at: float
    weight: Weight = Weight.OWN
    seen_late: bool = True
    """Whether ``at`` is when somebody noticed: it may have happened some seconds before."""


def from_rank_exit(event: RankExited, *, host: str, node_rank: int, at: float, log: str) -> Failure:
    """A rank that did not end with 0. What it raised counts, not the signal that ended it during its exit."""
    error = event.error
    signal = None if error else event.signal
    kind: CauseKind
    if error:
        message = f"{error.type}: {error.message}"
        kind = "oom" if is_memory(message) else "exception"
    elif event.oom:
        kind, message = "oom", f"out of memory, killed by the kernel: {event.oom}"
    elif signal is not None:
        kind, message = "signal", f"killed by {signal_name(signal)}"
    else:
        kind, message = "exit", f"ended with exit code {event.code}"
    return Failure(
        cause=Cause(
            kind=kind,
            message=last_sentence(message) or kind,
            host=host,
            node_rank=node_rank,
            rank=event.rank,
            exit_code=1 if error and event.signal is not None else event.code,
            signal=signal,
            traceback=error.traceback if error else "",
            log=log,
        ),
        at=at,
        weight=_weight(event, error, signal),
        seen_late=error is None,
    )


def from_engine_exit(event: EngineExited, *, host: str, node_rank: int, at: float, log: str) -> Failure:
    """An engine that did not end with 0 though none of its ranks had failed by itself. Engines that are sent
    a signal may end their ranks and leave with an exit code of their own, or not leave at all."""
    killed_by = event.code - 128 if event.code > 128 and not event.swept else None
    signal = killed_by or event.sent
    code = 1 if event.swept else event.code
    kind: CauseKind = "exit"
    if event.oom:
        kind, message = "oom", f"the engine: {event.oom}"
    elif signal is not None:
        kind, message = (
            "signal",
            f"the engine was {'killed by' if killed_by else 'sent'} {signal_name(signal)}",
        )
    elif event.told:
        message = "the engine ended its ranks, was it sent a signal?"
    else:
        message = f"the engine ended with exit code {code}"
    return Failure(
        cause=Cause(
            kind=kind,
            message=message,
            host=host,
            node_rank=node_rank,
            exit_code=code,
            signal=signal,
            log=log,
        ),
        at=at,
        weight=Weight.OWN if signal is not None else Weight.DOUBTFUL,
    )


def _weight(event: RankExited, error: RankError | None, signal: int | None) -> Weight:
    if event.told:
        return Weight.TOLD
    if error:
        blamed = blames_a_peer(error)
        if blamed is None:
            return Weight.DOUBTFUL
        return Weight.PEER if blamed else Weight.OWN
    return Weight.DOUBTFUL if signal == signals.SIGABRT else Weight.OWN


def first(failures: Sequence[Failure], *, clock: float, late: float) -> Failure:
    """The failure to name, among one or more.

    Of those with the lowest weight, what was certainly later than another is out: times of different hosts
    are right within ``clock`` seconds, what was noticed only is at most ``late`` seconds older than its time.
    Among the rest the kind decides: what kills a rank from outside, what it raised, how it ended. Then time.
    """
    weight = min(failure.weight for failure in failures)
    standing = [failure for failure in failures if failure.weight == weight]
    start = min(failure.at for failure in standing)
    near = [failure for failure in standing if failure.at - late * failure.seen_late <= start + clock]
    return min(near, key=lambda failure: (_order(failure), failure.at))


def _order(failure: Failure) -> int:
    match failure.cause.kind:
        case "oom" | "signal" | "internal":
            return 0
        case "exception":
            return 1
        case "lost":
            return 2
    return 3


def signal_name(number: int) -> str:
    """``SIGKILL`` for 9; real-time signals by number."""
    try:
        return signals.Signals(number).name
    except ValueError:
        return f"signal {number}"
