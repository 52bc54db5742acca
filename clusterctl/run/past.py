"""What earlier controllers of a run have written down of it, for one that goes on in their place."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from clusterctl.plan.model import LaunchPlan
from clusterctl.run.checkpoints import Choice
from clusterctl.run.clock import Moment, as_now, now
from clusterctl.run.observed import Progress, progress_in
from clusterctl.run.spent import Timed
from clusterctl.store.outcome import Attempt
from clusterctl.store.runs import RunDirectory

_TAIL = 64 << 10


class AttemptEnd(msgspec.Struct, frozen=True, kw_only=True):
    """The end of an attempt that another is to follow, and what its time went into."""

    ended: Attempt
    timed: Timed

    def event(self, incomplete_logs: tuple[str, ...]) -> dict[str, Any]:
        """As one line of ``events.jsonl``, which `Past.of` reads."""
        ended = msgspec.structs.replace(self.ended, incomplete_logs=incomplete_logs)
        told = {"ended": ended, "timed": self.timed, "moment": Moment.here()}
        event: dict[str, Any] = {"event": "attempt-end", "time": time.time()}
        return event | dict(msgspec.to_builtins(told))


class Past(msgspec.Struct, frozen=True, kw_only=True):
    """Times are those of `clock.now`. ``ended``: attempts that another was to follow, and ``timed``
    what their time went into, as far as it is known. Of the newest attempt: when it began, the checkpoint
    it went on from, and how far its logs say that it came. ``in_place``: by host, whether it runs in the
    working directory itself."""

    began: float
    ended: tuple[Attempt, ...] = ()
    timed: tuple[Timed, ...] = ()
    attempt_began: float
    resumed: Choice = Choice()
    progress: Progress = Progress()
    in_place: dict[str, bool] = {}

    @classmethod
    def none(cls) -> Past:
        """Of a run that begins now."""
        return cls(began=now(), attempt_began=now())

    @classmethod
    def of(cls, directory: RunDirectory, plan: LaunchPlan) -> Past:
        """As the directory of a run tells it, whose newest attempt is ``plan``. Raises OSError."""
        events = list(directory.events())
        ends = [event for event in events if event["event"] == "attempt-end"]
        places = {
            str(event.get("host")): not plan.is_copy(str(event.get("cwd")))
            for event in events
            if event["event"] == "started"
        }
        began = as_now(directory.started())
        return cls(
            began=began,
            ended=directory.ended_attempts(),
            timed=tuple(each for event in ends for each in _timed(event)),
            attempt_began=max([began, *(_at(each) for each in events if each["event"] == "attempt")]),
            resumed=_resumed(directory.attempt_events()),
            progress=_progress(directory, plan),
            in_place=places if plan.code.digest else {},
        )


def _timed(event: dict[str, Any]) -> list[Timed]:
    """What was written down about one attempt, by this machine's clock since its last boot."""
    shift = [each.shift for each in _converted(Moment, [event.get("moment")])]
    return [each.later(shift[0]) for each in _converted(Timed, [event.get("timed")]) if shift]


def _resumed(events: Sequence[dict[str, Any]]) -> Choice:
    told = [each for each in events if each["event"] == "resume"]
    chosen = [{name: each.get(name) for name in ("tag", "step")} for each in told[-1:]]
    return next(iter(_converted(Choice, chosen)), Choice())


def _progress(directory: RunDirectory, plan: LaunchPlan) -> Progress:
    """The first step from the events, the last from the ends of the logs: what is written last is as old as
    its file."""
    first = [each for each in directory.attempt_events() if each["event"] == "first-step"]
    found = Progress()
    for event in first[:1]:
        found = Progress(first_step=event.get("step"), first_at=_at(event))
    for node in plan.nodes:
        for rank in node.ranks:
            path = directory.host_logs(node.host) / plan.log_of(rank)
            with contextlib.suppress(OSError), path.open("rb") as stream:
                stream.seek(max(0, stream.seek(0, 2) - _TAIL))
                found = found.after(progress_in(stream.read(), as_now(path.stat().st_mtime)))
    return found


def _at(event: dict[str, Any]) -> float:
    at = event.get("time")
    return as_now(float(at) if isinstance(at, int | float) else 0.0)


def _converted(kind: type[Any], values: Sequence[Any]) -> list[Any]:
    found = []
    for value in values:
        with contextlib.suppress(msgspec.ValidationError):
            found.append(msgspec.convert(value, kind))
    return found
