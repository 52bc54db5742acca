"""Plain data parallelism: every rank has the whole model, and gradients are averaged over the ranks."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

import optimization
from engine import Batch
from model import GPT
from ranks import Place

STATE = "state.pt"
AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


class DDP:
    """An Engine made of PyTorch alone. Weights stay in fp32; `dtype` is what the layers compute in."""

    kind = "ddp"
    title = f"PyTorch {torch.__version__}, DistributedDataParallel"

    def __init__(
        self,
        model: GPT,
        optimizer: Optimizer,
        scheduler: Any,
        *,
        micro_batch: int,
        passes: int,
        clip: float,
        dtype: str,
        place: Place,
    ) -> None:
        self.module = model
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.micro_batch = micro_batch
        self.passes = passes
        self.clip = clip
        self.dtype = dtype
        self.device = place.device
        self.first = place.is_first
        self.may_overflow = dtype == "fp16"
        self.scaler = torch.amp.GradScaler(place.device.type, enabled=self.may_overflow)
        self.skipped = 0
        self.parallel = DistributedDataParallel(
            model,
            device_ids=None if place.on_cpu else [place.device.index],
            gradient_as_bucket_view=True,
        )

    def step(self, batches: Iterable[Batch]) -> tuple[Tensor, float | None]:
        total = torch.zeros((), device=self.device)
        for index, (inputs, targets) in enumerate(batches, 1):
            # Gradients cross the network once a step, with the last pass.
            with nullcontext() if index == self.passes else self.parallel.no_sync():
                with self._autocast():
                    loss = self.parallel(inputs, targets)
                self.scaler.scale(loss / self.passes).backward()
            total += loss.detach()
        self.scaler.unscale_(self.optimizer)
        norm = clip_(list(self.module.parameters()), self.clip)
        scale = self.scaler.get_scale()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        if self.scaler.get_scale() < scale:
            self.skipped += 1
        else:
            self.scheduler.step()
        return total / self.passes, float(norm)

    def forward(self, inputs: Tensor, targets: Tensor | None = None) -> Tensor:
        self.module.eval()
        with torch.no_grad(), self._autocast():
            answer: Tensor = self.module(inputs, targets)
        self.module.train()
        return answer

    def save(self, path: Path, *, is_writer: bool) -> None:
        if is_writer:
            path.mkdir(parents=True)
            parts = self._parts().items()
            torch.save({name: part.state_dict() for name, part in parts}, path / STATE)

    def load(self, path: Path, *, writers: int) -> None:
        state = torch.load(path / STATE, map_location=self.device, weights_only=True)
        for name, part in self._parts().items():
            part.load_state_dict(state[name])

    def weights(self) -> dict[str, Tensor]:
        return {name: value.cpu() for name, value in self.module.state_dict().items()} if self.first else {}

    def _parts(self) -> dict[str, Any]:
        return {
            "model": self.module,
            "optimizer": self.optimizer,
            "scheduler": self.scheduler,
            "scaler": self.scaler,
        }

    def _autocast(self) -> AbstractContextManager[Any]:
        dtype = AUTOCAST.get(self.dtype)
        return nullcontext() if dtype is None else torch.autocast(self.device.type, dtype)


def build(
    model: GPT, config: dict[str, Any], *, dtype: str, warmup: int, decay_steps: int, place: Place
) -> DDP:
    """DDP with the batch, clipping and optimizer of a complete `config`, as DeepSpeed would read them."""
    optimizer = optimization.build(model, config["optimizer"]["type"], config["optimizer"]["params"])
    return DDP(
        model,
        optimizer,
        optimization.schedule(optimizer, warmup, decay_steps),
        micro_batch=config["train_micro_batch_size_per_gpu"],
        passes=config["gradient_accumulation_steps"],
        clip=config["gradient_clipping"],
        dtype=dtype,
        place=place,
    )


def clip_(parameters: list[nn.Parameter], most: float) -> Tensor:
    """Scale the gradients so that their norm is `most` at most (0: leave them); the norm they had.

    The norm is summed in fp64: in fp32 it depends on the order, and so on the strategy.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norms = [torch.linalg.vector_norm(gradient, dtype=torch.float64) for gradient in gradients]
    norm: Tensor = torch.linalg.vector_norm(torch.stack(norms))
    if most > 0:
        torch._foreach_mul_(gradients, (most / (norm + 1e-6)).clamp(max=1.0))
    return norm
