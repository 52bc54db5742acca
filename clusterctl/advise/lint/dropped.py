"""Arguments of transformers' Trainer that do nothing: the config has another answer, or no place for them."""

from __future__ import annotations

from collections.abc import Iterator

from clusterctl.advise.lint.batch import MICRO, STEPS, TRAIN
from clusterctl.advise.lint.case import Case, Remark, named, shown
from clusterctl.advise.lint.text import Place

_OPTIMIZER: Place = ("optimizer", "params")
_SCHEDULER: Place = ("scheduler", "params")
_WARMUPS = ("WarmupLR", "WarmupDecayLR", "WarmupCosineLR")
_CYCLES = ("LRRangeTest", "OneCycle")
"""Those that have learning rates of their own."""
_SAME_SCHEDULE = {"WarmupLR": "constant_with_warmup", "WarmupDecayLR": "linear", "WarmupCosineLR": "cosine"}
_SAME_OPTIMIZER = {"adam": "adamw", "adamw": "adamw", "sgd": "sgd", "adagrad": "adagrad", "lion": "lion"}
"""The beginning of what transformers calls it."""
_OFF = ("false", "0", "no")


def judge(case: Case) -> Iterator[Remark]:
    yield from _accumulation(case)
    for flag, place in _places(case):
        if flag in case.situation.flags and case.get(*map(str, place)) is None:
            told = f"--{flag} {case.situation.flags[flag]} does nothing: the config has no {named(place)}"
            yield case.remark("warn", "ds.ignored", place[:-1], told, fix=f'"{place[-1]}": "auto"')
    yield from _rate(case)
    yield from _instead(case)


def _places(case: Case) -> Iterator[tuple[str, Place]]:
    """Where an argument is filled in, if the config has the place."""
    flags = case.situation.flags
    if flags.get("max_grad_norm") not in ("1", "1.0"):  # which is DeepSpeed's default as well
        yield "max_grad_norm", ("gradient_clipping",)
    if case.get("optimizer", "type") is not None:
        yield "adam_epsilon", (*_OPTIMIZER, "eps")
        yield "weight_decay", (*_OPTIMIZER, "weight_decay")
        yield "adam_beta1", (*_OPTIMIZER, "betas")
        yield "adam_beta2", (*_OPTIMIZER, "betas")
    if case.get("scheduler", "type") in _WARMUPS:
        yield "warmup_steps", (*_SCHEDULER, "warmup_num_steps")
    for half in ("fp16", "bf16"):
        if case.get(half) is not None and flags.get(half, "").lower() not in _OFF:
            yield half, (half, "enabled")


def _accumulation(case: Case) -> Iterator[Remark]:
    typed = case.situation.flags.get(STEPS, "1")
    if case.get(STEPS) is not None or typed == "1":
        return
    fails = case.get(TRAIN) is not None and case.get(MICRO) is not None
    yield case.remark(
        "fail" if fails else "warn",
        "ds.batch" if fails else "ds.ignored",
        (TRAIN,),
        f"--{STEPS} {typed}, and the config has no {STEPS}: accelerate takes 1",
        leads="every rank fails in deepspeed.initialize: train_batch_size is held against it"
        if fails
        else "",
        fix=f'"{STEPS}": "auto"',
    )


def _rate(case: Case) -> Iterator[Remark]:
    """What DeepSpeed's classes take where nobody tells them is far from the default of transformers."""
    scheduler, typed = case.get("scheduler", "type"), case.situation.flags.get("learning_rate", "5e-05")
    if scheduler == "WarmupDecayLR":
        place: Place = (*_SCHEDULER, "warmup_max_lr")
    elif case.get("optimizer", "type") is not None:
        place = (*_OPTIMIZER, "lr")
    else:
        return
    if scheduler not in _CYCLES and case.get(*map(str, place)) is None:
        told = f"the config has no {named(place)}: DeepSpeed takes its own default, not learning_rate {typed}"
        yield case.remark("warn", "ds.ignored", place[:-1], told, fix=f'"{place[-1]}": "auto"')


def _instead(case: Case) -> Iterator[Remark]:
    """The config names a scheduler or an optimizer, and an argument another one."""
    flags = case.situation.flags
    schedule, own = flags.get("lr_scheduler_type"), case.get("scheduler", "type")
    if schedule is not None and own is not None and _SAME_SCHEDULE.get(str(own)) != schedule:
        yield case.remark(
            "warn",
            "ds.ignored",
            ("scheduler", "type"),
            f"--lr_scheduler_type {schedule} does nothing: the config has the scheduler {shown(own)}",
            fix='leave "scheduler" out',
        )
    optimizer, own = flags.get("optim"), case.get("optimizer", "type")
    same = _SAME_OPTIMIZER.get(str(own).lower())
    if optimizer is not None and own is not None and not (same and optimizer.startswith(same)):
        yield case.remark(
            "warn",
            "ds.ignored",
            ("optimizer", "type"),
            f"--optim {optimizer} does nothing: the config has the optimizer {shown(own)}",
            fix='leave "optimizer" out',
        )
