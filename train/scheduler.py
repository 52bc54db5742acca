"""The `scheduler` of a ds_config: what it leaves open is filled in, and what contradicts it is refused."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from errors import UserError

# Which of a scheduler's settings an argument stands for. WarmupCosineLR takes its peak from the optimizer.
STANDS_FOR = {
    "WarmupLR": {"warmup_max_lr": "lr", "warmup_num_steps": "warmup"},
    "WarmupDecayLR": {
        "warmup_max_lr": "lr",
        "warmup_num_steps": "warmup",
        "total_num_steps": "lr_decay_steps",
    },
    "WarmupCosineLR": {"warmup_num_steps": "warmup", "total_num_steps": "lr_decay_steps"},
}
AUTO = "auto"


def complete(section: dict[str, Any], args: Namespace, lr: float) -> dict[str, Any]:
    """A copy of `section` in which nothing is "auto" any more, and every argument that was given counts.

    Raises UserError where both the file and an argument state the same thing differently.
    """
    kind, params = section.get("type"), dict(section.get("params") or {})
    known = STANDS_FOR.get(str(kind), {})
    values = {"lr": lr, "warmup": max(1, args.warmup), "lr_decay_steps": args.lr_decay_steps}
    for key, argument in known.items():
        stated = params.get(key, AUTO)
        if stated != AUTO and argument in args.given and stated != values[argument]:
            raise UserError(
                f"--{argument} is {values[argument]:g}, and the {kind} of the ds_config has {key} {stated}",
                hint=f'leave one of them out, or write "{key}": "auto"',
            )
        # DeepSpeed has a default for the warm-up, none for the total, and for the peak not the optimizer's.
        if stated == AUTO and (key in params or argument in args.given or argument != "warmup"):
            params[key] = values[argument]
    if params.get("warmup_min_lr") == AUTO:
        params["warmup_min_lr"] = 0.0
    through_optimizer = {"lr"} if kind == "WarmupCosineLR" else set()
    unheard = sorted(args.given - set(known.values()) - through_optimizer)
    if unheard:
        raise UserError(
            f"--{unheard[0]} has no place in the {kind} of the ds_config",
            hint="leave out the argument, or the scheduler: without it there is a warm-up and a cosine",
        )
    for key, value in params.items():
        if value == AUTO:
            raise UserError(f'{kind} of the ds_config: {key} is "auto"', hint="give it a value")
    return {**section, "params": params}
