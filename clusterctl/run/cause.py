"""Which of several failures came first. Pure.

A victim's exception can be younger than the kill that caused it by less than any clock can be read over SSH,
so within a window the kind decides, and time only among equals. SIGABRT is a victim's, too: NCCL's watchdog
aborts a rank whose peer is gone.
"""

from __future__ import annotations

import signal as signals
from collections.abc import Sequence

import msgspec

from clusterctl.messages.events import RankExited
from clusterctl.store.outcome import Cause, CauseKind

_PEER_SIGNS = (
    "connection reset by peer",
    "connection closed by peer",
    "connection refused",
    "broken pipe",
    "socket timeout",
    "recvvalue failed",
    "failed to recv",
    "remote process exited",
    "ncclremoteerror",
    "nccl error",
    "distbackenderror",
    "diststoreerror",
    "distnetworkerror",
    "gloo/transport",
    "timed out waiting",
    "timed out after",
)
_MEMORY_SIGNS = ("out of memory", "outofmemoryerror", "cannot allocate memory", "memoryerror")


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """One failure and when it happened, in the controller's clock (seconds since the epoch)."""

    cause: Cause
    at: float
    peer: bool = False
    """True for an error that only says another rank is gone."""


def from_rank_exit(event: RankExited, *, host: str, node_rank: int, at: float, log: str) -> Failure:
    """A rank that ended with a code or signal nobody asked for."""
    error, signal = event.error, event.signal
    text = f"{error.type}: {error.message}" if error else ""
    kind: CauseKind
    if event.oom or _says(text, _MEMORY_SIGNS):
        kind = "oom"
        message = text or event.oom
    elif signal is not None:
        kind, message = "signal", f"killed by {signal_name(signal)}"
    elif error:
        kind, message = "exception", text
    else:
        kind, message = "exit", f"ended with exit code {event.code}"
    return Failure(
        cause=Cause(
            kind=kind,
            message=message.strip().splitlines()[0] if message.strip() else kind,
            host=host,
            node_rank=node_rank,
            rank=event.rank,
            exit_code=event.code,
            signal=signal,
            traceback=error.traceback if error else "",
            log=log,
        ),
        at=at,
        peer=_says(text, _PEER_SIGNS),
    )


def first(failures: Sequence[Failure], window: float) -> Failure:
    """The failure to name. ``window``: seconds after the earliest within which kind beats time."""
    start = min(failure.at for failure in failures)
    near = [failure for failure in failures if failure.at <= start + window]
    return min(near, key=lambda failure: (_order(failure), failure.at))


def _order(failure: Failure) -> int:
    kind = failure.cause.kind
    if failure.cause.signal == signals.SIGABRT:
        return 3
    if kind in ("oom", "signal"):
        return 0
    if failure.peer:
        return 4
    if kind == "lost":
        return 3
    return 1 if kind == "exception" else 2


def _says(text: str, signs: Sequence[str]) -> bool:
    lower = text.lower()
    return any(sign in lower for sign in signs)


def signal_name(number: int) -> str:
    """``SIGKILL`` for 9; real-time signals by number."""
    try:
        return signals.Signals(number).name
    except ValueError:
        return f"signal {number}"
