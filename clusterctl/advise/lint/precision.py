"""What the model, its gradients and its master weights are in."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from clusterctl.advise.lint.case import Case, Remark, shown
from clusterctl.advise.lint.values import DTYPES

_START = "every rank fails in deepspeed.initialize"


def bf16(case: Case) -> str:
    """The name that bf16 is configured by."""
    return "bfloat16" if case.get("bf16") is None and case.get("bfloat16") is not None else "bf16"


def judge(case: Case) -> Iterator[Remark]:
    brain, half = case.on(bf16(case), "enabled"), case.on("fp16", "enabled")
    if brain and half:
        yield case.remark(
            "fail",
            "ds.precision",
            ("fp16", "enabled"),
            "fp16 and bf16 are both enabled",
            leads="AssertionError on every rank",
            fix="keep bf16 where the GPUs have it (RTX 30 and A100 on), else fp16",
        )
    if half and case.situation.machines.cpu:
        yield case.remark(
            "warn",
            "ds.precision",
            ("fp16", "enabled"),
            "fp16 is enabled, and the hosts have no GPU: almost no CPU can",
            leads="Type fp16 is not supported on your device",
            fix='"bf16": {"enabled": true}, or neither',
        )
    yield from _loss_scale(case, enabled=half)
    yield from _masters(case)
    yield from _types(case, own="bf16" if brain else "fp16" if half else "fp32")


def _masters(case: Case) -> Iterator[Remark]:
    """Master weights in the model's own type."""
    stage = case.stage
    masters = ((bf16(case), "bf16_master_weights_and_grads"), ("fp16", "fp16_master_weights_and_grads"))
    for section, key in masters:
        if case.on(section, key) and stage == 0:
            told = f"{section}.{key} needs ZeRO stage 1, 2 or 3"
            yield case.remark("fail", "ds.precision", (section, key), told, leads=_START)
        elif case.on(section, key) and stage and not _moved(case, section):
            told = f"{section}.{key} needs DeepSpeed's own Adam, offloaded to RAM"
            yield case.remark(
                "fail",
                "ds.precision",
                (section, key),
                told,
                leads=_START,
                fix='"offload_optimizer": {"device": "cpu"}, and no torch_adam'
                + ('\n"bf16_optimizer_states": true does not need it' if section != "fp16" else ""),
            )
    states = (bf16(case), "bf16_optimizer_states")
    if case.on(*states) and not case.on(*masters[0]):
        told = f"{'.'.join(states)} needs bf16_master_weights_and_grads"
        yield case.remark("fail", "ds.precision", states, told, leads=_START)


def _types(case: Case, *, own: str) -> Iterator[Remark]:
    """``own``: what the model is in."""
    stage = case.stage
    wanted = DTYPES.get(str(case.get("data_types", "grad_accum_dtype")), own)
    resident = DTYPES.get(str(case.get("data_types", "param_dtype")), own)
    if resident != own and case.situation.reader == "deepspeed":
        yield case.remark(
            "fail",
            "ds.precision",
            ("data_types", "param_dtype"),
            f"data_types.param_dtype is {resident}, and the model is in {own}",
            leads=_START,
            fix='leave "param_dtype" out: fp16.enabled and bf16.enabled say it',
        )
    buffers = case.get("data_types", "buffer_dtype")
    if own != "fp32" and buffers is not None and str(buffers) not in DTYPES:
        told = f"data_types.buffer_dtype is {shown(buffers)}, not fp16, bf16 or fp32"
        yield case.remark("fail", "ds.type", ("data_types", "buffer_dtype"), told, leads=_START)
    if stage == 0 and wanted != own and case.situation.reader != "transformers":
        yield case.remark(
            "fail",
            "ds.precision",
            ("data_types", "grad_accum_dtype"),
            f"gradients in {wanted} and a model in {own} need ZeRO stage 1, 2 or 3",
            leads=_START,
        )


def _loss_scale(case: Case, *, enabled: bool) -> Iterator[Remark]:
    given = case.section("fp16")
    scale = given.get("loss_scale", 0)
    for key in ("loss_scale", "loss_scale_window", "min_loss_scale"):
        if isinstance(given.get(key), bool):
            told = f"fp16.{key} is {shown(given[key])}, not a number"
            yield case.remark("fail", "ds.type", ("fp16", key), told, leads=_START)
    if _endless(scale) or (isinstance(scale, (int, float)) and scale < 0):
        told = f"fp16.loss_scale is {shown(scale)}; 0 finds one by itself"
        yield case.remark("fail", "ds.type", ("fp16", "loss_scale"), told, leads=_START)
    for key in ("loss_scale_window", "min_loss_scale"):
        value = given.get(key, 1)
        if enabled and not scale and isinstance(value, (int, float)) and value <= 0:
            told = f"fp16.{key} is {shown(value)}, and must be above 0 where loss_scale is 0"
            yield case.remark("fail", "ds.type", ("fp16", key), told, leads=_START)


def _endless(value: Any) -> bool:
    """Whether Python reads infinity or nan in it."""
    try:
        return not math.isfinite(float(value))
    except (TypeError, ValueError, OverflowError):
        return False


def _moved(case: Case, section: str) -> bool:
    """Whether it can be as it is there, or a script may have seen to it."""
    if case.situation.reader == "script":
        return True
    if case.device("offload_optimizer"):
        return not case.on("optimizer", "params", "torch_adam")
    return case.on(section, "bf16_optimizer_states")
