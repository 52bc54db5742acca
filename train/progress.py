"""What the run says: lines for people, and JSON lines for programs."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import flops
import memory
import metrics
from errors import UserError
from metrics import JsonLines
from ranks import Place, fail_together

GIB = 1 << 30
RECENT_STEPS = 20


@dataclass(frozen=True, kw_only=True)
class Step:
    """One optimizer step as it went: `loss` is the mean over the ranks, `own_loss` this rank's."""

    number: int
    loss: float
    own_loss: float
    lr: float
    grad_norm: float | None
    seconds: float
    data_seconds: float
    skipped: int


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
        journal: JsonLines | None,
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
        # What --metrics asked for, on rank 0, and what each rank tells those who started it.
        self.journal = journal
        self.own = metrics.from_environment()

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

    def step(self, done: Step, *, show: bool) -> None:
        self.recent.append(done.seconds)
        self.since_line.append(done.seconds)
        rate = self.tokens_per_step / done.seconds
        self.record(
            "step",
            step=done.number,
            loss=done.loss,
            lr=done.lr,
            grad_norm=done.grad_norm,
            seconds=done.seconds,
            tokens_per_second=rate,
            tokens_per_second_per_rank=rate / self.place.world_size,
            mfu=self._mfu(rate),
            peak_memory_bytes=peak_memory(self.place),
        )
        if self.own:
            self.own.write(
                step=done.number,
                loss=done.own_loss,
                lr=done.lr,
                grad_norm=done.grad_norm,
                tokens=self.tokens_per_step // self.place.world_size,
                step_s=done.seconds,
                data_s=done.data_seconds,
                peak_bytes=peak_memory(self.place),
                skipped=done.skipped,
                mfu=self._mfu(rate),
                **memory.told(),
            )
        if show and self.place.is_first:
            say(self._line(done))
            self.since_line.clear()

    def evaluation(self, step: int, loss: float, perplexity: float, tokens: int) -> None:
        self.record("eval", step=step, loss=loss, perplexity=perplexity, tokens=tokens)
        if self.own:
            self.own.write(step=step, eval_loss=loss)
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

    def record(self, event: str, **values: Any) -> None:
        if self.journal:
            self.journal.write(event=event, **values)

    def _line(self, done: Step) -> str:
        rate = self.tokens_per_step * len(self.since_line) / sum(self.since_line)
        each = "rank" if self.place.on_cpu else "gpu"
        left = (self.steps - done.number) * sum(self.recent) / len(self.recent)
        mfu = self._mfu(rate)
        grad = "n/a" if done.grad_norm is None else f"{done.grad_norm:.2f}"
        return (
            f"step {done.number:>{len(str(self.steps))}}/{self.steps}  loss {done.loss:.4f}  lr {done.lr:.1e}"
            f"  grad {grad}"
            f"  tok/s {rate:,.0f} ({rate / self.place.world_size:,.0f}/{each})"
            f"  MFU {'n/a' if mfu is None else f'{mfu:.1%}'}  {memory_text(self.place)}  ETA {clock(left)}"
        )

    def _mfu(self, rate: float) -> float | None:
        return None if self.peak is None else self.flops_per_token * rate / self.place.world_size / self.peak


def open_journal(path: Path, place: Place) -> JsonLines | None:
    """The file for --metrics on rank 0, None elsewhere. Collective; raises UserError on all ranks."""
    journal = problem = None
    if place.is_first:
        try:
            journal = JsonLines(path)
        except OSError as error:
            problem = UserError(
                f"{place.host} cannot write {path}: {error.strerror}", hint="give another --metrics"
            )
    fail_together(problem)
    return journal


def say(line: str) -> None:
    # In one piece: with unbuffered output, print would let another rank in before the line end.
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def peak_memory(place: Place) -> int:
    """Bytes: allocated on the GPU at most, or the resident set at most on a CPU."""
    if place.on_cpu:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return int(torch.get_device_module(place.device).max_memory_allocated())


def memory_text(place: Place) -> str:
    return f"{'peak RSS' if place.on_cpu else 'peak mem'} {peak_memory(place) / GIB:.1f} GiB"


def clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
