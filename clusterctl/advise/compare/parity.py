"""Whether strategies train the same: their losses at equal steps."""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec

from clusterctl.advise.compare.model import Comparison
from clusterctl.advise.fit.job import Precision

TOLERANCE: Mapping[Precision, float] = {"fp32": 1e-5, "bf16": 2e-2, "fp16": 2e-2}
"""Relative. In fp32 sums may differ in their order alone; in 16 bits every product is rounded to three
digits, and strategies round at different places."""

_COARSE: tuple[Precision, ...] = ("bf16", "fp16")


class Deviation(msgspec.Struct, frozen=True, kw_only=True):
    """The largest one of a strategy, relative to the reference. ``first`` is the first step beyond the
    tolerance, None where there is none."""

    strategy: str
    relative: float
    step: int
    first: int | None


class Parity(msgspec.Struct, frozen=True, kw_only=True):
    """``verdict`` is None where there was nothing to compare. ``unlike`` trained on other numbers of tokens,
    ``silent`` told no losses."""

    verdict: bool | None
    reference: str = ""
    tolerance: float = 0.0
    precision: Precision = "fp32"
    steps: int = 0
    deviations: tuple[Deviation, ...] = ()
    unlike: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()

    @property
    def deviating(self) -> tuple[str, ...]:
        return (*(each.strategy for each in self.deviations if each.first is not None), *self.unlike)


def parity(comparison: Comparison) -> Parity:
    """All against `ddp`, or the first that was measured. Every repetition counts."""
    losses: dict[str, list[dict[int, float]]] = {}
    tokens: dict[str, set[int]] = {}
    silent: list[str] = []
    precisions: set[Precision] = set()
    for trial in comparison.trials:
        if trial.ending != "measured":
            continue
        told = {step.step: step.loss for step in trial.steps if step.loss is not None}
        if not told:
            silent.append(trial.strategy)
            continue
        losses.setdefault(trial.strategy, []).append(told)
        tokens.setdefault(trial.strategy, set()).update(step.tokens for step in trial.steps if step.tokens)
        if trial.told is not None and trial.told.precision is not None:
            precisions.add(trial.told.precision)
    quiet = tuple(dict.fromkeys(silent))
    names = [each for each in comparison.strategies if each in losses]
    if not names:
        return Parity(verdict=None, silent=quiet)
    reference = "ddp" if "ddp" in names else names[0]
    # Unknown precision is taken for the strictest: a deviation is named, and the reader knows better.
    precision: Precision = next((each for each in _COARSE if each in precisions), "fp32")
    tolerance = TOLERANCE[precision]
    base = losses[reference][0]
    unlike = tuple(name for name in names if tokens[name] != tokens[reference])
    found = []
    for name in names:
        if name in unlike:
            continue
        against = [each for each in losses[name] if each is not base]
        if against:
            found.append(_deviation(name, base, against, tolerance))
    others = [each for each in found if each.strategy != reference]
    verdict = None if not others and not unlike else not unlike and all(each.first is None for each in found)
    return Parity(
        verdict=verdict,
        reference=reference,
        tolerance=tolerance,
        precision=precision,
        steps=len(base),
        deviations=tuple(found),
        unlike=unlike,
        silent=quiet,
    )


def _deviation(name: str, base: dict[int, float], others: list[dict[int, float]], limit: float) -> Deviation:
    sizes: dict[int, float] = {}
    for other in others:
        for step in base.keys() & other.keys():
            sizes[step] = max(sizes.get(step, 0.0), _relative(base[step], other[step]))
    step = max(sizes, key=lambda each: sizes[each], default=0)
    return Deviation(
        strategy=name,
        relative=sizes.get(step, 0.0),
        step=step,
        first=min((each for each, size in sizes.items() if size > limit), default=None),
    )


def _relative(one: float, other: float) -> float:
    if one == other or (math.isnan(one) and math.isnan(other)):
        return 0.0
    if not (math.isfinite(one) and math.isfinite(other)):
        return math.inf
    return abs(one - other) / max(abs(one), 1e-12)
