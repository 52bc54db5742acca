"""What the optimizer is given: which parameters decay, and the learning rate of each step."""

from __future__ import annotations

import math
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

FINAL_LR_SHARE = 0.1


def parameter_groups(model: nn.Module) -> list[dict[str, Any]]:
    """Matrices with the optimizer's weight decay; gains and biases with none."""
    matrices = [parameter for parameter in model.parameters() if parameter.dim() >= 2]
    vectors = [parameter for parameter in model.parameters() if parameter.dim() < 2]
    return [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]


def schedule(optimizer: Optimizer, warmup: int, decay_steps: int) -> LambdaLR:
    return LambdaLR(optimizer, lambda step: lr_share(step, warmup, decay_steps))


def lr_share(step: int, warmup: int, decay_steps: int) -> float:
    """Share of the peak rate in the step after `step` steps: linear warm-up, then cosine to a tenth."""
    if step < warmup:
        return (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, decay_steps - warmup))
    return FINAL_LR_SHARE + (1 - FINAL_LR_SHARE) * 0.5 * (1 + math.cos(math.pi * done))
