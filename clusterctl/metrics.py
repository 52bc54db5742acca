"""For scripts: tell of steps, so that the run has curves. Standard library only.

``from clusterctl import metrics; metrics.log(step=1, loss=2.3)``: docs/metrics.md has the names. Outside a
run it does nothing. A script whose hosts do not have clusterctl needs the three lines there, and no more.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
import time
from typing import Any

VARIABLE = "CLUSTERCTL_METRICS"


def log(step: int, **told: Any) -> None:
    """Tell of one step of this rank: numbers by name, or what has an ``item()`` that is one; None is no word.
    A disk that takes nothing costs the line, not the script."""
    path = os.environ.get(VARIABLE)
    if not path:
        return
    numbers = {name: _number(value) for name, value in told.items() if value is not None}
    line = json.dumps({"step": step, **numbers, "t": round(time.time(), 3)}) + "\n"
    with contextlib.suppress(OSError):
        target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(target, line.encode())
        finally:
            os.close(target)


def _number(value: Any) -> float | int | str:
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    if isinstance(value, int | float):
        return value
    raise TypeError(f"{value!r} is not a number")


class TrainerMetrics:
    """A callback of transformers: ``Trainer(..., callbacks=[TrainerMetrics()])``.

    Not a subclass of theirs: clusterctl imports nothing that trains.
    """

    _NAMES = {"learning_rate": "lr"}

    def __init__(self) -> None:
        self._tokens = (0, 0)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        told = {}
        for name, value in (logs or {}).items():
            with contextlib.suppress(TypeError, ValueError, RuntimeError):  # a text, or a tensor of many
                told[self._NAMES.get(name, name)] = _number(value)
        seen = int(getattr(state, "num_input_tokens_seen", 0) or 0)
        steps = state.global_step - self._tokens[0]
        if seen > self._tokens[1] and steps > 0 and "loss" in told:
            # They count those of all ranks.
            told["tokens"] = round((seen - self._tokens[1]) / steps / getattr(args, "world_size", 1))
            self._tokens = (state.global_step, seen)
        log(step=state.global_step, peak_bytes=_peak(), **told)

    def __getattr__(self, name: str) -> Any:
        """There is nothing to do on any other of their events."""
        if name.startswith("on_"):
            return lambda *_, **__: None
        raise AttributeError(name)


def _peak() -> int | None:
    torch: Any = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return None
    return int(torch.cuda.max_memory_allocated())
