""" "auto" where nobody fills it in, and DeepSpeed calculates with it."""

from __future__ import annotations

from collections.abc import Iterator

from clusterctl.advise.lint.case import Case, Remark, named
from clusterctl.advise.lint.text import Place

_NUMBERS: tuple[Place, ...] = (
    ("train_batch_size",),
    ("train_micro_batch_size_per_gpu",),
    ("gradient_accumulation_steps",),
    ("gradient_clipping",),
    ("tensor_parallel", "autotp_size"),
)
_OTHERS = ("cycle_momentum", "lr_range_test_staircase", "warmup_type")
"""Of a scheduler, and no numbers."""


def judge(case: Case) -> Iterator[Remark]:
    if case.situation.reader != "deepspeed":
        return
    inside: list[Place] = [
        (what, "params", key)
        for what in ("optimizer", "scheduler")
        for key in case.section(what, "params")
        if key not in _OTHERS
    ]
    for place in (*_NUMBERS, *inside):
        if case.get(*map(str, place)) == "auto":
            yield case.remark(
                "fail",
                "ds.auto",
                place,
                f'{named(place)} is "auto", which only transformers fills in',
                leads="TypeError on every rank",
                fix="a number\nfor a file that goes to transformers' Trainer: --reader transformers",
            )
