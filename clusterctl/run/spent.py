"""What the time of a run went into: its share of effective training time, and where the rest was lost. Pure.

Steps are those that the logs tell of. Without any, nobody can say what was training.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from clusterctl.store.outcome import Spent


class Timed(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt, in seconds of one clock. ``began`` is the end of the one before: what lies between is part
    of its start. ``failed`` is when what ended it happened, ``ordered`` when the hosts were told to stop;
    both are None where all ended well. ``at_most``: it may have happened later than ``failed``, of which
    only the last sign before is known. ``resumed_step`` is that of the checkpoint it went on from, where
    known."""

    began: float
    ended: float
    first_step: int | None = None
    last_step: int | None = None
    first_at: float | None = None
    last_at: float | None = None
    failed: float | None = None
    ordered: float | None = None
    at_most: bool = False
    resumed_step: int | None = None

    def later(self, seconds: float) -> Timed:
        """The same by a clock that is ahead by so much."""
        names = ("began", "ended", "first_at", "last_at", "failed", "ordered")
        times = {name: at + seconds for name in names if (at := getattr(self, name)) is not None}
        return msgspec.structs.replace(self, **times)

    @property
    def failure(self) -> float:
        """When it trained no more: what others print after that is no training."""
        failed = _ordered(self) if self.failed is None else min(self.failed, _ordered(self))
        return max(failed, self.began)

    @property
    def training(self) -> float:
        return 0.0 if self.first_at is None else max(0.0, self.failure - self.first_at)

    @property
    def pace(self) -> float:
        """Seconds a step."""
        if self.first_at is None or self.last_at is None or self.first_step is None or self.last_step is None:
            return 0.0
        steps = self.last_step - self.first_step
        return (self.last_at - self.first_at) / steps if steps > 0 else self.training


def spent(attempts: Sequence[Timed]) -> Spent:
    """Where the time of all these attempts at one run went. The parts are the whole."""
    whole = attempts[-1].ended - attempts[0].began
    detection = sum(_detection(each) for each in attempts)
    stop = sum(each.ended - max(each.failure, _ordered(each)) for each in attempts)
    known = Spent(
        seconds=_round(whole),
        detection=_round(detection),
        detection_at_most=any(each.at_most for each in attempts),
        stop=_round(stop),
    )
    if all(each.first_at is None for each in attempts):
        return known
    again = [_steps_again(each, attempts[number:]) for number, each in enumerate(attempts, 1)]
    lost = sum(min(each.training, steps * each.pace) for each, steps in zip(attempts, again, strict=True))
    productive = sum(each.training for each in attempts) - lost
    return msgspec.structs.replace(
        known,
        start=_round(whole - detection - stop - productive - lost),
        lost_steps=sum(again),
        lost=_round(lost),
        productive=_round(productive),
        share=round(productive / whole, 4) if whole > 0 else None,
    )


def _ordered(attempt: Timed) -> float:
    ordered = attempt.ended if attempt.ordered is None else min(attempt.ordered, attempt.ended)
    return max(ordered, attempt.began)


def _detection(attempt: Timed) -> float:
    return max(0.0, _ordered(attempt) - attempt.failure)


def _steps_again(attempt: Timed, later: Sequence[Timed]) -> int:
    """How many of its steps a later attempt had to do once more."""
    if attempt.last_step is None:
        return 0
    for each in later:
        start = each.resumed_step
        if start is None and each.first_step is not None:
            start = each.first_step - 1
        if start is not None:
            return max(0, min(attempt.last_step - start, attempt.last_step - (attempt.first_step or 1) + 1))
    return 0


def _round(seconds: float) -> float:
    return round(max(0.0, seconds), 3)
