"""What trains the model together with the other ranks: `ddp.py` and `zero.py` are two ways of doing it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor
from torch.optim import Optimizer

from model import GPT

Batch = tuple[Tensor, Tensor]


class Engine(Protocol):
    """The model, its optimizer and its schedule. Every method but `forward` is collective."""

    # Whose checkpoints it reads: "ddp", "zero0" to "zero3", "zero3-nvme".
    kind: str
    # For people.
    title: str
    module: GPT
    optimizer: Optimizer
    scheduler: Any
    micro_batch: int
    passes: int
    # In fp16 a gradient that overflows is ordinary: the step is skipped and the loss scale halved.
    may_overflow: bool

    @property
    def skipped(self) -> int:
        """Steps that were left out since the start, because a gradient overflowed."""

    def step(self, batches: Iterable[Batch]) -> tuple[Tensor, float | None]:
        """One optimizer step over `passes` batches: this rank's mean loss, and the gradient's norm over all
        ranks before clipping (None where it is not known)."""

    def forward(self, inputs: Tensor, targets: Tensor | None = None) -> Tensor:
        """The loss, or the logits, without gradient and dropout. Collective in ZeRO 3 only."""

    def save(self, path: Path, *, is_writer: bool) -> None:
        """Write what `load` needs into the directory `path`; what all share, once, by `is_writer`."""

    def load(self, path: Path, *, writers: int) -> None:
        """Restore weights, optimizer and schedule from `path`, where so many ranks saved them."""

    def weights(self) -> dict[str, Tensor]:
        """The whole model's, on the CPU of rank 0; nothing elsewhere."""
