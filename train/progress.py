"""What the run says: lines for people on every rank, JSON lines for programs on rank 0."""

from __future__ import annotations

import json
import math
import os
import resource
import sys
import time
from collections import deque
from pathlib import Path
from typing import IO, Any

from deepspeed.accelerator import get_accelerator

import flops
from errors import UserError
from ranks import Place, fail_together

GIB = 1 << 30
RECENT_STEPS = 20


class Progress:
    """Counts and reports steps. Only rank 0 prints steps; each rank says when it begins and ends."""

    def __init__(
        self,
        place: Place,
        *,
        steps: int,
        tokens_per_step: int,
        flops_per_token: float,
        dtype: str,
        metrics: IO[str] | None,
    ) -> None:
        self.place = place
        self.steps = steps
        self.tokens_per_step = tokens_per_step
        self.flops_per_token = flops_per_token
        # The table holds bf16 figures; against fp32 they would mislead.
        self.peak = flops.peak(place.device) if dtype in ("bf16", "fp16") else None
        self.recent: deque[float] = deque(maxlen=RECENT_STEPS)
        self.began = time.monotonic()
        self.since_line: list[float] = []
        self.metrics = metrics

    def hello(self) -> None:
        place = self.place
        say(
            f"rank {place.rank} of {place.world_size} on {place.host}:"
            f" local rank {place.local_rank}, {place.device}, pid {os.getpid()}"
        )

    def header(self, facts: dict[str, Any]) -> None:
        if self.place.is_first:
            width = max(map(len, facts))
            for name, value in facts.items():
                say(f"{name:<{width}}  {value}")
        self.record("start", **facts)

    def step(
        self, step: int, *, loss: float, lr: float, grad_norm: float | None, seconds: float, show: bool
    ) -> None:
        self.recent.append(seconds)
        self.since_line.append(seconds)
        rate = self.tokens_per_step / seconds
        self.record(
            "step",
            step=step,
            loss=loss,
            lr=lr,
            grad_norm=grad_norm,
            seconds=seconds,
            tokens_per_second=rate,
            tokens_per_second_per_rank=rate / self.place.world_size,
            mfu=self._mfu(rate),
            peak_memory_bytes=peak_memory(self.place),
        )
        if show and self.place.is_first:
            say(self._line(step, loss, lr, grad_norm))
            self.since_line.clear()

    def evaluation(self, step: int, loss: float, perplexity: float, tokens: int) -> None:
        self.record("eval", step=step, loss=loss, perplexity=perplexity, tokens=tokens)
        if self.place.is_first:
            say(
                f"eval {step}/{self.steps}  loss {loss:.4f}  perplexity {perplexity:,.1f}"
                f"  on {tokens:,} held-out tokens"
            )

    def note(self, line: str) -> None:
        """One line from rank 0."""
        if self.place.is_first:
            say(line)

    def goodbye(self, steps: int, ending: str) -> None:
        seconds = time.monotonic() - self.began
        say(
            f"rank {self.place.rank} on {self.place.host}: {ending} after {steps} steps in {seconds:.1f} s,"
            f" {memory_text(self.place)}"
        )
        self.record("end", steps=steps, seconds=seconds, ending=ending)
        if self.metrics:
            self.metrics.close()

    def record(self, event: str, **values: Any) -> None:
        if self.metrics:
            known = {name: value if _is_json(value) else None for name, value in values.items()}
            self.metrics.write(json.dumps({"event": event, "time": time.time(), **known}) + "\n")
            self.metrics.flush()

    def _line(self, step: int, loss: float, lr: float, grad_norm: float | None) -> str:
        rate = self.tokens_per_step * len(self.since_line) / sum(self.since_line)
        each = "rank" if self.place.on_cpu else "gpu"
        left = (self.steps - step) * sum(self.recent) / len(self.recent)
        mfu = self._mfu(rate)
        grad = "n/a" if grad_norm is None else f"{grad_norm:.2f}"
        return (
            f"step {step:>{len(str(self.steps))}}/{self.steps}  loss {loss:.4f}  lr {lr:.1e}  grad {grad}"
            f"  tok/s {rate:,.0f} ({rate / self.place.world_size:,.0f}/{each})"
            f"  MFU {'n/a' if mfu is None else f'{mfu:.1%}'}  {memory_text(self.place)}  ETA {clock(left)}"
        )

    def _mfu(self, rate: float) -> float | None:
        return None if self.peak is None else self.flops_per_token * rate / self.place.world_size / self.peak


def open_metrics(path: Path, place: Place) -> IO[str] | None:
    """The file for JSON lines on rank 0, None elsewhere. Collective; raises UserError on all ranks."""
    file = problem = None
    if place.is_first:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("a", encoding="utf-8")
        except OSError as error:
            problem = UserError(
                f"{place.host} cannot write {path}: {error.strerror}", hint="give another --metrics"
            )
    fail_together(problem)
    return file


def _is_json(value: Any) -> bool:
    """An overflow in fp16 gives inf or nan, for which JSON has no word."""
    return not isinstance(value, float) or math.isfinite(value)


def say(line: str) -> None:
    # In one piece: with unbuffered output, print would let another rank in before the line end.
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def peak_memory(place: Place) -> int:
    """Bytes: allocated on the GPU at most, or the resident set at most on a CPU."""
    if place.on_cpu:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return int(get_accelerator().max_memory_allocated())


def memory_text(place: Place) -> str:
    return f"{'peak RSS' if place.on_cpu else 'peak mem'} {peak_memory(place) / GIB:.1f} GiB"


def clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
