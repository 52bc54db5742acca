"""Values that DeepSpeed reads one by one, without a model: a wrong one ends it with whatever Python says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from clusterctl.advise.lint.case import Case, Remark, named, shown
from clusterctl.advise.lint.text import Place

_LEVELS = ("debug", "info", "warning", "error", "critical")
_PASSES = ("z1", "z3", "autosp", "autotp")
_SENT = ("fp16", "bf16", "fp32")
DTYPES = {
    **dict.fromkeys(("fp16", "float16", "torch.float16", "half"), "fp16"),
    **dict.fromkeys(("bf16", "bfloat16", "torch.bfloat16"), "bf16"),
    **dict.fromkeys(("fp32", "float32", "torch.float32", "float"), "fp32"),
    **dict.fromkeys(("int8", "torch.int8"), "int8"),
}
"""The short name of each."""


class _Wanted(msgspec.Struct, frozen=True):
    """``words`` say what ``holds`` accepts."""

    words: str
    holds: Callable[[Any], bool]


def _one_of(*choices: str) -> _Wanted:
    words = f"{', '.join(choices[:-1])} or {choices[-1]}"
    return _Wanted(words, lambda value: isinstance(value, str) and value.lower() in choices)


def _or_null(wanted: _Wanted) -> _Wanted:
    return _Wanted(wanted.words, lambda value: value is None or wanted.holds(value))


def _names(value: Any) -> bool:
    return isinstance(value, (list, dict)) and all(isinstance(each, str) for each in value)


_SWITCH = _Wanted("true or false", lambda value: isinstance(value, int))
_OBJECT = _Wanted("an object", lambda value: isinstance(value, dict))
_DIRECTORY = _Wanted("the name of a directory", bool)
_DTYPE = _Wanted("fp16, bf16 or fp32", lambda value: isinstance(value, str) and value in DTYPES)
_WANTED: dict[Place, _Wanted] = {
    ("autotuning", "exps_dir"): _DIRECTORY,
    ("autotuning", "model_info"): _or_null(_OBJECT),
    ("autotuning", "results_dir"): _DIRECTORY,
    ("checkpoint", "parallel_write"): _OBJECT,
    ("checkpoint", "parallel_write", "pipeline_stage"): _Wanted(
        "true or false", lambda value: value in (True, False)
    ),
    ("checkpoint", "tag_validation"): _one_of("ignore", "warn", "fail"),
    ("checkpoint", "writer"): _or_null(_OBJECT),
    ("checkpoint", "writer", "type"): _one_of("mock", "python", "fast"),
    ("communication_data_type",): _or_null(_one_of(*_SENT)),
    ("compile", "passes"): _or_null(
        _Wanted(
            f"a list of {', '.join(_PASSES[:-1])} and {_PASSES[-1]}",
            lambda value: not isinstance(value, list) or all(each in _PASSES for each in value),
        )
    ),
    ("data_types", "grad_accum_dtype"): _or_null(_DTYPE),
    ("data_types", "keep_in_fp32_modules"): _Wanted(
        '"auto" or a list of names', lambda value: value == "auto" or _names(value)
    ),
    ("data_types", "param_dtype"): _or_null(_DTYPE),
    ("expert_parallel", "load_balance_coeff"): _Wanted("null", lambda value: value is None),
    ("flops_profiler", "enabled"): _SWITCH,
    ("gradient_allreduce_op",): _one_of("mean", "sum"),
    ("log_level",): _or_null(_one_of(*_LEVELS)),
    ("optimizer", "params"): _or_null(_OBJECT),
    ("seq_parallel_communication_data_type",): _or_null(_one_of(*_SENT)),
    ("sequence_parallel_size",): _Wanted(
        "a number above 0", lambda value: isinstance(value, (int, float)) and value > 0
    ),
    ("tensor_parallel", "dtype"): _Wanted("something that a file can hold", lambda value: value == "auto"),
    ("timers",): _Wanted("an object", lambda value: isinstance(value, (dict, str, list))),
    ("timers", "throughput"): _Wanted(
        "an object of enabled and synchronized",
        lambda value: isinstance(value, dict) and not value.keys() - {"enabled", "synchronized"},
    ),
    ("torch_autocast", "dtype"): _DTYPE,
    ("torch_autocast", "lower_precision_safe_modules"): _Wanted(
        "a list of classes, each with its module: torch.nn.Linear",
        lambda value: _names(value) and all("." in each for each in value),
    ),
    ("vocabulary_size",): _Wanted("a number", lambda value: not value or isinstance(value, (int, float))),
    ("wall_clock_breakdown",): _SWITCH,
}


def judge(case: Case) -> Iterator[Remark]:
    for place, wanted in _WANTED.items():
        outer = case.section(*map(str, place[:-1])) if place[1:] else case.document.data
        if place[-1] not in outer:
            continue
        value = outer[str(place[-1])]
        if wanted.holds(value) or (value == "auto" and case.situation.reader != "deepspeed"):
            continue
        yield case.remark(
            "fail",
            "ds.type",
            place,
            f"{named(place)} is {shown(value)}, not {wanted.words}",
            leads="every rank fails in deepspeed.initialize",
        )
