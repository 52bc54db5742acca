"""The scheduler that a config names, with its parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from clusterctl.advise.lint.case import Case, Remark, shown
from clusterctl.advise.lint.keys import suggestion, unknown_parameters
from clusterctl.advise.lint.text import Place

_START = "every rank fails in deepspeed.initialize"
_PLACE: Place = ("scheduler", "params")
_SINCE = (0, 19, 6)
"""The version that refuses warmup_num_steps 0; older ones took it for 2."""


def _whole(value: Any) -> bool:
    return isinstance(value, int) and value > 0


def _number(value: Any) -> bool:
    return isinstance(value, (int, float))


def _rate(value: Any) -> bool:
    return _number(value) or (isinstance(value, list) and all(map(_number, value)))


def _length(value: Any) -> bool:
    return _number(value) and value > 0


_WANTED: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "cycle_first_step_size": ("a number above 0", _length),
    "cycle_max_lr": ("a number", _rate),
    "cycle_min_lr": ("a number", _rate),
    "cycle_second_step_size": (
        "a number from 0 on",
        lambda value: value is None or (_number(value) and value >= 0),
    ),
    "decay_lr_rate": ("a number", _number),
    "decay_mom_rate": ("a number", _number),
    "decay_step_size": ("a number", _number),
    "lr_range_test_min_lr": ("a number", _rate),
    "lr_range_test_step_size": ("a whole number above 0", _whole),
    "total_num_steps": ("a number", _number),
    "warmup_max_lr": ("a number", lambda value: value is None or _rate(value)),
    "warmup_min_lr": ("a number", _rate),
}


def judge(case: Case) -> Iterator[Remark]:
    given = case.section("scheduler")
    name = given.get("type")
    if name is None:
        if given:
            told = "scheduler has no type: it is ignored"
            yield case.remark("warn", "ds.ignored", ("scheduler",), told, fix='"type": "WarmupLR"')
        return
    calls = {**case.schema.torch_schedulers, **case.schema.schedulers}
    call = calls.get(name) if isinstance(name, str) else None
    if call is None:
        yield case.remark(
            "fail",
            "ds.scheduler",
            ("scheduler", "type"),
            f"scheduler.type {shown(name)} is neither DeepSpeed's nor torch's",
            leads=_START,
            fix=suggestion(str(name), calls),
        )
        return
    parameters = given.get("params")
    if not isinstance(parameters, dict):
        told = f"scheduler.params is {'not an object' if 'params' in given else 'not there'}"
        fix = '"params": {...}'
        yield case.remark("fail", "ds.scheduler", ("scheduler",), told, leads=_START, fix=fix)
        return
    yield from unknown_parameters(case, _PLACE, parameters, call.all, name)
    for each in call.required:
        if each not in parameters:
            value = '"auto"' if case.situation.reader == "transformers" else "N"
            told = f"{name} without {each}"
            fix = f'"{each}": {value} in scheduler.params'
            yield case.remark("fail", "ds.scheduler", _PLACE, told, leads=_START, fix=fix)
    if name in case.schema.schedulers:
        yield from _values(case, parameters)
        yield from _steps(case, parameters)


def _values(case: Case, parameters: dict[str, Any]) -> Iterator[Remark]:
    for key, (words, holds) in _WANTED.items():
        value = parameters.get(key)
        if key in parameters and value != "auto" and not holds(value):
            told = f"{key} is {shown(value)}, not {words}"
            leads = "every rank fails, at the latest in its first step"
            yield case.remark("fail", "ds.scheduler", (*_PLACE, key), told, leads=leads)


def _steps(case: Case, parameters: dict[str, Any]) -> Iterator[Remark]:
    place = (*_PLACE, "warmup_num_steps")
    warmup, total = parameters.get("warmup_num_steps", 1), parameters.get("total_num_steps")
    if warmup == "auto":
        return
    if not _whole(warmup):
        severe = _version(case) >= _SINCE
        yield case.remark(
            "fail" if severe else "warn",
            "ds.scheduler",
            place,
            f"warmup_num_steps is {shown(warmup)}, and must be a whole number above 0",
            leads=_START if severe else "DeepSpeed before 0.19.6 takes it for 2",
            fix='"warmup_num_steps": 1',
        )
    elif _number(total) and total is not None and total < warmup:
        told = f"warmup_num_steps {warmup} is more than total_num_steps {total}: the warm-up never ends"
        yield case.remark("warn", "ds.scheduler", place, told)


def _version(case: Case) -> tuple[int, ...]:
    numbers = case.schema.version.split("+")[0].split(".")[:3]
    return tuple(int(number) if number.isdecimal() else 0 for number in numbers)
