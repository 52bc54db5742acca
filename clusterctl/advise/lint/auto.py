""" "auto" where nobody fills it in, and DeepSpeed calculates with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from clusterctl.advise.lint.case import Case, Remark, counted, named
from clusterctl.advise.lint.text import Place

_NUMBERS: tuple[Place, ...] = (
    ("train_batch_size",),
    ("train_micro_batch_size_per_gpu",),
    ("gradient_accumulation_steps",),
    ("gradient_clipping",),
    ("tensor_parallel", "autotp_size"),
)
_FILLED = frozenset(
    {
        ("gradient_accumulation_steps",),
        ("gradient_clipping",),
        ("steps_per_print",),
        ("train_batch_size",),
        ("train_micro_batch_size_per_gpu",),
        *((half, "enabled") for half in ("fp16", "bf16")),
        *(("optimizer", "params", key) for key in ("betas", "eps", "lr", "weight_decay")),
        *(
            ("scheduler", "params", key)
            for key in ("total_num_steps", "warmup_max_lr", "warmup_min_lr", "warmup_num_steps")
        ),
        *(
            ("zero_optimization", key)
            for key in (
                "reduce_bucket_size",
                "stage",
                "stage3_gather_16bit_weights_on_model_save",
                "stage3_param_persistence_threshold",
                "stage3_prefetch_bucket_size",
            )
        ),
        *(
            ("zero_optimization", what, key)
            for what in ("offload_optimizer", "offload_param")
            for key in ("device", "nvme_path")
        ),
    }
)
"""By transformers or accelerate, which refuses any other."""
_OTHERS = ("cycle_momentum", "lr_range_test_staircase", "warmup_type")
"""Of a scheduler, and no numbers."""


def judge(case: Case) -> Iterator[Remark]:
    if case.situation.reader == "transformers":
        yield from _unfilled(case)
    if case.situation.reader != "deepspeed":
        return
    inside: list[Place] = [
        (what, "params", key)
        for what in ("optimizer", "scheduler")
        for key in case.section(what, "params")
        if key not in _OTHERS
    ]

    def told(place: Place) -> Remark:
        return case.remark(
            "fail",
            "ds.auto",
            place,
            f'{named(place)} is "auto", which only transformers fills in',
            leads="TypeError on every rank",
            fix="a number\nfor a file that goes to transformers' Trainer: --reader transformers",
        )

    places = (*_NUMBERS, *inside)
    yield from counted([place for place in places if case.get(*map(str, place)) == "auto"], told)


def _unfilled(case: Case) -> Iterator[Remark]:
    def told(place: Place) -> Remark:
        return case.remark(
            "fail",
            "ds.auto",
            place,
            f'{named(place)} is "auto", which neither transformers nor accelerate fills in',
            leads=f"ValueError on every rank: `{named(place)}` not found in kwargs",
            fix="a value, or leave it out",
        )

    yield from counted([place for place in _autos((), case.document.data) if place not in _FILLED], told)


def _autos(place: Place, values: dict[str, Any]) -> Iterator[Place]:
    """Not those in lists, which accelerate does not look at."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _autos((*place, key), value)
        elif value == "auto":
            yield (*place, key)
