"""From what single ranks tell to one line a step over all of them. Pure; ``now`` is an argument.

A step is over when every rank that tells of steps has told of it, when a later one is, or with the attempt.
What comes later still amends the line of a step, as long as that is among the newest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from clusterctl.run.metrics.record import KNOWN, Told
from clusterctl.store.step import Step

PATIENCE = 10.0
"""Seconds from the first word of any rank on, in which a rank that is silent is waited for."""
_MOST_OPEN = 4096
_AMENDED = 64
_SHOWN_RANKS = 64


class _OneStep:
    def __init__(self) -> None:
        self.values: dict[int, dict[str, float]] = {}
        self.time: float | None = None
        self.written = False
        self.changed = False


class Merger:
    """Of one attempt."""

    def __init__(self, attempt: int, hosts: Mapping[int, str]) -> None:
        """``hosts`` by rank."""
        self.late = 0
        """How often a rank told of a step that was no longer among the newest: that is left out."""
        self._attempt = attempt
        self._hosts = hosts
        self._sources: dict[int, str] = {}
        self._began: float | None = None
        self._open: dict[int, _OneStep] = {}
        self._floor = -1
        self._over = -1
        self._before: dict[int, tuple[int, float]] = {}

    def take(self, rank: int, told: Told, now: float, *, came: float | None, source: str = "metrics") -> None:
        """``came``: when on the wall clock, as far as that is known."""
        self._began = now if self._began is None else self._began
        self._sources[rank] = source
        if told.step <= self._floor and told.step not in self._open:
            self.late += 1
            return
        step = self._open.setdefault(told.step, _OneStep())
        values = dict(told.values)
        if told.time is not None:
            before = self._before.get(rank)
            if before is None or told.step > before[0]:
                self._before[rank] = (told.step, told.time)
                if before is not None and "step_s" not in values and told.time >= before[1]:
                    values["step_s"] = (told.time - before[1]) / (told.step - before[0])
        step.values.setdefault(rank, {}).update(values)
        step.time = max(filter(None, (step.time, told.time or came)), default=None)
        step.changed = True

    def lines(self, now: float, most: int = 1 << 30, *, over: bool = False) -> list[Step]:
        """Those of steps that are over and were not written as they are now, in order, and ``most`` of them
        at once. ``over``: nothing more comes."""
        if self._began is None:
            return []
        silent = not over and now - self._began < PATIENCE
        awaited = set(self._hosts) if silent else set(self._sources)
        done = [number for number, step in self._open.items() if awaited <= step.values.keys()]
        self._over = max(self._over, *done) if done else self._over
        numbers = sorted(self._open)
        waiting = sum(not step.written for step in self._open.values())
        found: list[Step] = []
        for number in numbers:
            step = self._open[number]
            if not step.changed:
                continue
            if len(found) == most:
                break
            if step.written or number <= self._over or over or waiting > _MOST_OPEN:
                waiting -= not step.written
                step.written, step.changed = True, False
                found.append(self._line(number, step))
        written = [number for number in numbers if self._open[number].written]
        for number in written[:-_AMENDED]:
            del self._open[number]
            self._floor = max(self._floor, number)
        return found

    def _line(self, number: int, step: _OneStep) -> Step:
        values = step.values
        missing = tuple(sorted(self._sources.keys() - values.keys()))

        def told(name: str) -> dict[int, float]:
            return {rank: each[name] for rank, each in sorted(values.items()) if name in each}

        times = told("step_s")
        slow = max(times, key=times.__getitem__, default=None)
        tokens = sum(told("tokens").values()) if told("tokens") and not missing else None
        longest = times[slow] if slow is not None else 0.0
        waits = [wait / times[rank] for rank, wait in told("data_s").items() if times.get(rank)]
        others = sorted({name for each in values.values() for name in each} - KNOWN)
        some = len(times) > 1 and len(self._hosts) <= _SHOWN_RANKS
        return Step(
            attempt=self._attempt,
            step=number,
            time=step.time,
            ranks=len(values),
            missing=missing,
            source=self._sources[min(values)],
            loss=_mean(told("loss")),
            loss_max=_highest(told("loss")),
            eval_loss=_mean(told("eval_loss")),
            grad_norm=_highest(told("grad_norm")),
            lr=next(iter(told("lr").values()), None),
            tokens=None if tokens is None else int(tokens),
            tokens_per_s=tokens / longest if tokens is not None and longest else None,
            step_s=_mean(times),
            step_s_min=min(times.values(), default=None),
            step_s_max=longest if times else None,
            slow_rank=slow if len(times) > 1 else None,
            slow_host=self._hosts.get(slow) if slow is not None and len(times) > 1 else None,
            step_s_ranks=tuple(times.get(rank) for rank in sorted(self._hosts)) if some else (),
            data_share=sum(waits) / len(waits) if waits else None,
            peak_bytes=_whole(told("peak_bytes")),
            skipped=_whole(told("skipped")),
            mfu=_mean(told("mfu")),
            other={name: mean for name in others if (mean := _mean(told(name))) is not None},
        )


def _mean(told: Mapping[int, float]) -> float | None:
    return sum(told.values()) / len(told) if told else None


def _highest(told: Mapping[int, float]) -> float | None:
    if any(map(math.isnan, told.values())):
        return math.nan
    return max(told.values(), default=None)


def _whole(told: Mapping[int, float]) -> int | None:
    return int(max(told.values())) if told else None
