"""What the optimizer is given: which parameters decay, and the learning rate of each step."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

FINAL_LR_SHARE = 0.1


def parameter_groups(model: nn.Module) -> list[dict[str, Any]]:
    """Matrices with the optimizer's weight decay; gains and biases with none."""
    # ZeRO-3 leaves a parameter empty while it is divided, and keeps its shape aside.
    dimensions = {p: len(getattr(p, "ds_shape", p.shape)) for p in model.parameters()}
    matrices = [parameter for parameter, count in dimensions.items() if count >= 2]
    vectors = [parameter for parameter, count in dimensions.items() if count < 2]
    return [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]


def build(model: nn.Module, kind: str, params: dict[str, Any]) -> Optimizer:
    """torch's AdamW or SGD with the `params` that a ds_config would give it."""
    params = {name: value for name, value in params.items() if name != "torch_adam"}
    make = torch.optim.SGD if kind == "SGD" else torch.optim.AdamW
    optimizer: Optimizer = make(parameter_groups(model), **params)
    return optimizer


def schedule(optimizer: Optimizer, warmup: int, decay_steps: int) -> LambdaLR:
    return LambdaLR(optimizer, lambda step: lr_share(step, warmup, decay_steps))


def settings(optimizer: Optimizer, scheduler: Any) -> list[dict[str, Any]]:
    """What each group of parameters is trained with; `lr` is the peak where the schedule is our own."""
    groups = [
        {name: value for name, value in group.items() if name not in ("params", "lr", "initial_lr")}
        for group in optimizer.param_groups
    ]
    if isinstance(scheduler, LambdaLR):
        for group, peak in zip(groups, scheduler.base_lrs, strict=True):
            group["lr"] = peak
    return groups


def impose(wanted: list[dict[str, Any]], optimizer: Optimizer, scheduler: Any) -> list[str]:
    """Give a resumed optimizer the settings of this run; what was otherwise in the checkpoint, in words."""
    were = settings(optimizer, scheduler)
    for group, new in zip(optimizer.param_groups, wanted, strict=True):
        group.update({name: value for name, value in new.items() if name != "lr"})
    if isinstance(scheduler, LambdaLR):
        scheduler.base_lrs = [new["lr"] for new in wanted]
        shares = (share(scheduler.last_epoch) for share in scheduler.lr_lambdas)
        for group, new, share in zip(optimizer.param_groups, wanted, shares, strict=True):
            group["initial_lr"] = new["lr"]
            group["lr"] = new["lr"] * share
    changed = ((name, were[0].get(name), value) for name, value in wanted[0].items())
    return [
        f"{name} was {_plain(old)}, now {_plain(new)}"
        for name, old, new in changed
        if _plain(old) != _plain(new)
    ]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def lr_share(step: int, warmup: int, decay_steps: int) -> float:
    """Share of the peak rate in the step after `step` steps: linear warm-up, then cosine to a tenth."""
    if step < warmup:
        return (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, decay_steps - warmup))
    return FINAL_LR_SHARE + (1 - FINAL_LR_SHARE) * 0.5 * (1 + math.cos(math.pi * done))
