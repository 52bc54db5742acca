"""What trains the model together with the other ranks: `ddp.py` and `zero.py` are two ways of doing it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn
from torch.optim import Optimizer

Batch = tuple[Tensor, Tensor]


class Engine(Protocol):
    """The model, its optimizer and its schedule. Every method but `loss` is collective."""

    # Whose checkpoints it reads: "ddp", or "zero0" to "zero3".
    kind: str
    # For people.
    title: str
    module: nn.Module
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

    def loss(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """The loss without gradient and dropout. Collective in ZeRO 3 only."""

    def save(self, path: Path, *, is_writer: bool) -> None:
        """Write what `load` needs into the directory `path`; what all share, once, by `is_writer`."""

    def load(self, path: Path) -> None:
        """Restore weights, optimizer and schedule from `path`."""
