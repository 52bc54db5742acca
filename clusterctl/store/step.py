"""One step of a run over all ranks that tell: a line of ``metrics.jsonl``, see docs/metrics.md. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

import msgspec

VERSION = 1
_NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_DIGITS = 7


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """None is what nobody has told, never 0. Seconds, bytes; a number may be nan or infinite."""

    attempt: int
    step: int
    time: float | None = None
    """Wall clock, by the rank's own word, or when it came."""
    ranks: int = 0
    """How many told of this step."""
    missing: tuple[int, ...] = ()
    """Ranks that tell of steps in this attempt, and did not of this one."""
    source: str = "metrics"
    """Who said it: the script's own metrics, or ``log:`` and the shape of line it was read from."""
    loss: float | None = None
    loss_max: float | None = None
    eval_loss: float | None = None
    grad_norm: float | None = None
    lr: float | None = None
    tokens: int | None = None
    """Of all ranks together; None where one is missing."""
    tokens_per_s: float | None = None
    step_s: float | None = None
    """The mean over ranks,"""
    step_s_min: float | None = None
    step_s_max: float | None = None
    slow_rank: int | None = None
    """and who took longest."""
    slow_host: str | None = None
    step_s_ranks: tuple[float | None, ...] = ()
    """By rank, where there are not too many."""
    data_share: float | None = None
    """Of the time of a step, what it waited for data: 0 to 1."""
    peak_bytes: int | None = None
    """The highest of any rank."""
    skipped: int | None = None
    mfu: float | None = None
    other: dict[str, float] = {}
    """What else the script tells, as means over ranks."""


def as_one(steps: Iterable[Step]) -> list[Step]:
    """The same as one curve: of a step that several attempts took, the newest counts."""
    found = {step.step: step for step in steps}
    return [found[step] for step in sorted(found)]


def encode(step: Step) -> bytes:
    """The line, with its end."""
    told: dict[str, Any] = {"v": VERSION, **msgspec.structs.asdict(step)}
    return json.dumps(_plain(told), separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> Step | None:
    """None for what is no such line, or another version's."""
    try:
        told = json.loads(line)
        if not isinstance(told, dict) or told.pop("v", None) != VERSION:
            return None
        return msgspec.convert(_numbers(told), Step)
    except (ValueError, TypeError, RecursionError, msgspec.ValidationError):
        return None


def _plain(value: Any) -> Any:
    """For JSON, which knows no nan."""
    if isinstance(value, float):
        if not math.isfinite(value):
            return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
        return round(value, 3) if value > 1e8 else float(f"{value:.{_DIGITS}g}")  # of a time, milliseconds
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    return value


def _numbers(told: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for key, value in told.items():
        if isinstance(value, str) and key not in ("source", "slow_host"):
            value = _NOT_FINITE.get(value, value)
        elif isinstance(value, dict):
            value = _numbers(value)
        elif isinstance(value, list):
            value = [_NOT_FINITE.get(each, each) if isinstance(each, str) else each for each in value]
        found[key] = value
    return found
