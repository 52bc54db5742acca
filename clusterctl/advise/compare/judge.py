"""From trials to what a person wants to know: a row for each strategy, the same losses or not, which to take.

A difference of speed that is not larger than the spread of the steps is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median, quantiles

import msgspec

from clusterctl.advise.compare.model import Comparison, Held, Trial
from clusterctl.advise.compare.parity import Parity, parity
from clusterctl.advise.fit import traffic
from clusterctl.advise.fit.job import STRATEGIES, Job, Strategy, World
from clusterctl.advise.fit.shapes import of_size
from clusterctl.inventory.fold import fold

TIGHT = 0.92
"""Of a GPU's memory: a peak above it leaves no room for fragments."""

DEFAULT_REUSE = 10**9
"""Of DeepSpeed's stage3_max_reuse_distance, which the shipped configs leave as it is."""


class Spread(msgspec.Struct, frozen=True):
    """The middle one of many, and the middle half of them: a quarter lies below ``low``, one above
    ``high``."""

    middle: float
    low: float
    high: float

    def meets(self, other: Spread) -> bool:
        return self.low <= other.high and other.low <= self.high


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One strategy over all its repetitions. ``rate`` is tokens per second of one rank; ``held`` of the rank
    with the highest peak. ``sent`` is bytes a step of the host that sends most, ``said_sent`` what the model
    of `fit` says."""

    strategy: str
    measured: int
    cause: str = ""
    hint: str = ""
    out_of_memory: bool = False
    seconds: Spread | None = None
    rate: Spread | None = None
    held: Held | None = None
    sent: float | None = None
    said_sent: int | None = None
    mfu: float | None = None
    loss: float | None = None
    tight: bool = False


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """``best`` is empty where nothing can be recommended; ``equal`` are those that are as fast as it."""

    rows: tuple[Row, ...]
    parity: Parity
    best: str = ""
    equal: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()

    def row(self, strategy: str) -> Row:
        return next(each for each in self.rows if each.strategy == strategy)


def judge(comparison: Comparison) -> Judgement:
    """All of it; nothing is asked of anybody."""
    rows = tuple(_row(comparison, strategy) for strategy in comparison.strategies)
    same = parity(comparison)
    best, equal, reasons = _choose(rows, same, comparison)
    return Judgement(
        rows=rows,
        parity=same,
        best=best,
        equal=equal,
        reasons=reasons,
        cautions=_cautions(comparison, rows),
    )


def spread(values: Sequence[float]) -> Spread | None:
    """None of no values."""
    if not values:
        return None
    if len(values) < 4:
        return Spread(median(values), min(values), max(values))
    low, middle, high = quantiles(values, n=4, method="inclusive")
    return Spread(middle, low, high)


def _row(comparison: Comparison, strategy: str) -> Row:
    trials = comparison.of(strategy)
    done = [each for each in trials if each.ending == "measured"]
    wrong = next((each for each in trials if each.ending != "measured"), None)
    timed = [step for trial in done for step in trial.steps if step.step > comparison.warmup]
    known = [(step.seconds, step.tokens) for step in timed if step.seconds]
    rates = [tokens / seconds / comparison.ranks for seconds, tokens in known if seconds and tokens]
    helds = [held for trial in done for held in trial.held.values()]
    held = max(helds, key=lambda each: each.peak, default=None)
    # A host that counts nothing may be the one that sent most.
    sent = [max(trial.sent.values()) for trial in done if len(trial.sent) == len(comparison.places)]
    losses = [step.loss for step in timed if step.loss is not None]
    mfus = [step.mfu for step in timed if step.mfu is not None]
    memory = min((place.memory for place in comparison.places if place.memory), default=None)
    return Row(
        strategy=strategy,
        measured=len(done),
        cause=wrong.cause if wrong else "" if done else "not tried",
        hint=wrong.hint if wrong else "",
        out_of_memory=any(each.out_of_memory for each in trials),
        seconds=spread([seconds for seconds, _ in known if seconds]),
        rate=spread(rates),
        held=held,
        sent=median(sent) if sent else None,
        said_sent=_said_sent(comparison, strategy, done),
        mfu=median(mfus) if mfus else None,
        loss=losses[-1] if losses else None,
        tight=bool(memory and held and held.peak > TIGHT * memory),
    )


def known_strategy(name: str) -> Strategy | None:
    """That of `fit` by this name."""
    return next((each for each in STRATEGIES if each.name == name), None)


def _said_sent(comparison: Comparison, name: str, done: Sequence[Trial]) -> int | None:
    """What the model of `fit` says of the bytes that a rank sends in a step; None for a strategy that it does
    not know."""
    strategy = known_strategy(name)
    told = next((trial.told for trial in done if trial.told is not None), None)
    if strategy is None or told is None or told.precision is None or not told.parameters:
        return None
    shape = of_size(told.parameters)  # its layers are assumed: only what grows with the whole is asked
    job = Job(precision=told.precision, accumulation=told.accumulation, reuse=DEFAULT_REUSE)
    on_gpus = any(place.gpus for place in comparison.places)
    ranks = tuple(place.ranks for place in comparison.places)
    world = World(ranks=ranks, library="nccl" if on_gpus else "gloo")
    return traffic.of(shape, job, strategy, world).bytes if len(world.ranks) > 1 else 0


def _choose(
    rows: Sequence[Row], same: Parity, comparison: Comparison
) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """(the best, those as fast, why). The rules are those of `fit`: on the device before offloaded, surely
    before barely; among those, what was measured."""
    usable = [each for each in rows if each.measured and each.rate is not None]
    if not usable:
        untold = any(each.measured for each in rows)
        why = "no strategy was measured"
        if untold:
            why = "the script told of no tokens and times, so that speed cannot be compared"
        return "", (), (why,)
    fair = [each for each in usable if each.strategy not in same.deviating] or usable
    easy = [each for each in fair if not each.tight] or fair
    near = [each for each in easy if not _offloads(each)] or easy
    fastest = max(near, key=lambda each: _middle(each.rate))
    assert fastest.rate is not None
    equal = [each for each in near if each.rate is not None and each.rate.meets(fastest.rate)]
    best = min(equal, key=_peak) if all(each.held for each in equal) else fastest
    reasons = [_of_speed(best, fastest, equal, near)]
    if len(equal) > 1 and best.held is not None:
        most = max(equal, key=_peak)
        assert most.held is not None
        if most is not best and best.held.peak < 0.98 * most.held.peak:
            reasons.append(
                f"it holds the least of them at once: {best.held.peak / most.held.peak:.0%} of "
                f"{most.strategy}, for a larger micro-batch"
            )
    reasons += _of_others(rows, usable, fair, easy, near)
    return best.strategy, tuple(each.strategy for each in equal if each is not best), tuple(reasons)


def _of_speed(best: Row, fastest: Row, equal: Sequence[Row], near: Sequence[Row]) -> str:
    others = [each.strategy for each in equal if each is not best]
    if len(near) == 1:
        return f"{best.strategy}: no other came into question"
    if not others:
        slower = max((each for each in near if each is not best), key=lambda each: _middle(each.rate))
        more = _middle(best.rate) / _middle(slower.rate) - 1
        return f"{best.strategy}: the fastest, {more:.0%} more tokens per second than {slower.strategy}"
    return f"{best.strategy}: as fast as {_listed(others)}, within the spread of their steps"


def _of_others(
    rows: Sequence[Row], usable: Sequence[Row], fair: Sequence[Row], easy: Sequence[Row], near: Sequence[Row]
) -> list[str]:
    """Who was left out, and why."""
    said = []
    full = [each.strategy for each in rows if each.out_of_memory and not each.measured]
    if full:
        said.append(f"{_listed(full)}: out of memory here")
    for before, after, why in (
        (usable, fair, "other losses than the reference"),
        (fair, easy, f"the peak is above {TIGHT:.0%} of the GPU's memory"),
        (easy, near, "offloading is for what does not fit"),
    ):
        left = [each.strategy for each in before if each not in after]
        if left:
            said.append(f"{_listed(left)}: {why}")
    return said


def _cautions(comparison: Comparison, rows: Sequence[Row]) -> tuple[str, ...]:
    """What makes the figures less than they seem."""
    said = []
    machines: dict[str, list[str]] = {}
    for place in comparison.places:
        machines.setdefault(place.machine or place.host, []).append(place.host)
    shared = [hosts for hosts in machines.values() if len(hosts) > 1]
    if shared:
        largest = max(shared, key=len)
        said.append(f"{fold(largest)} are one machine and share its cores: speeds are not those of a cluster")
    busy = [place for place in comparison.places if (place.load or 0.0) > max(1.0, 0.25 * (place.cores or 1))]
    if busy:
        worst = max(busy, key=lambda place: place.load or 0.0)
        said.append(f"other work was running: {worst.host} had a load of {worst.load:.1f}")
    if not any(place.gpus for place in comparison.places):
        said.append("trained on CPUs: which is fastest on GPUs is another question")
    wide = [each.strategy for each in rows if each.seconds and each.seconds.high > 1.25 * each.seconds.low]
    if wide:
        said.append(f"noisy: steps of {_listed(wide)} differ by more than a quarter")
    if comparison.repeats == 1:
        said.append("each ran once: what changes from run to run is not known (--repeats 2)")
    if not comparison.finished:
        said.append("it was stopped before all had run")
    return tuple(said)


def _offloads(row: Row) -> bool:
    strategy = known_strategy(row.strategy)
    return bool(strategy.offloads) if strategy is not None else "offload" in row.strategy


def _middle(rate: Spread | None) -> float:
    return rate.middle if rate is not None else 0.0


def _peak(row: Row) -> int:
    return row.held.peak if row.held is not None else 0


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
