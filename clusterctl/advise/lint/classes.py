"""The optimizer and the scheduler that a config names, with their parameters."""

from __future__ import annotations

from collections.abc import Iterator

from clusterctl.advise.lint.case import Case, Remark, named, shown
from clusterctl.advise.lint.keys import suggestion, unknown_parameters
from clusterctl.advise.lint.text import Place

_START = "every rank fails in deepspeed.initialize"
_UNDER_ZERO = ("adam", "adamw", "adagrad", "lion", "muon")
"""Those that ZeRO takes without being asked twice."""
_SINCE = (0, 19, 6)
"""The version that refuses warmup_num_steps 0; older ones took it for 2."""


def judge(case: Case) -> Iterator[Remark]:
    yield from _optimizer(case)
    yield from _scheduler(case)
    if case.situation.reader == "deepspeed":
        yield from _left_auto(case)


def _optimizer(case: Case) -> Iterator[Remark]:
    given = case.section("optimizer")
    name, parameters = given.get("type"), case.section("optimizer", "params")
    if name is None:
        if parameters:
            told = "optimizer has no type: its params are ignored"
            yield case.remark("warn", "ds.ignored", ("optimizer",), told, fix='"type": "AdamW"')
        return
    known = (*case.schema.optimizers, *case.schema.torch_optimizers)
    if not isinstance(name, str) or (name.lower() not in case.schema.optimizers and name not in known):
        yield case.remark(
            "fail",
            "ds.optimizer",
            ("optimizer", "type"),
            f"optimizer.type {shown(name)} is neither DeepSpeed's nor torch's",
            leads=_START,
            fix=suggestion(str(name), ("AdamW", *known)),
        )
        return
    own = name.lower() if name.lower() in case.schema.optimizers else ""
    if case.stage and own not in _UNDER_ZERO and not case.on("zero_allow_untested_optimizer"):
        yield case.remark(
            "fail",
            "ds.optimizer",
            ("optimizer", "type"),
            f"ZeRO refuses {shown(name)} unless it is allowed",
            leads=_START,
            fix='"zero_allow_untested_optimizer": true',
        )
    if "max_grad_norm" in parameters:
        yield case.remark(
            "fail",
            "ds.optimizer",
            ("optimizer", "params", "max_grad_norm"),
            "max_grad_norm is not a parameter of an optimizer here",
            leads=_START,
            fix='"gradient_clipping" at the top level',
        )
        parameters = {key: value for key, value in parameters.items() if key != "max_grad_norm"}
    if own in ("adam", "adamw"):
        yield from unknown_parameters(case, ("optimizer", "params"), parameters, case.schema.adam, name)
        if case.situation.machines.cpu and not case.on("optimizer", "params", "torch_adam"):
            yield case.remark(
                "warn",
                "ds.optimizer",
                ("optimizer", "type"),
                f"on hosts without a GPU DeepSpeed compiles its own {name} at the first start",
                leads="a minute more on every host, or an error where it has no compiler",
                fix='"torch_adam": true in optimizer.params',
            )


def _scheduler(case: Case) -> Iterator[Remark]:
    given = case.section("scheduler")
    name = given.get("type")
    if name is None:
        return
    known = (*case.schema.schedulers, *case.schema.torch_schedulers)
    if name not in known:
        yield case.remark(
            "fail",
            "ds.scheduler",
            ("scheduler", "type"),
            f"scheduler.type {shown(name)} is neither DeepSpeed's nor torch's",
            leads=_START,
            fix=suggestion(str(name), known),
        )
        return
    if "params" not in given or not isinstance(given["params"], dict):
        told = f"scheduler.params is {'not an object' if 'params' in given else 'not there'}"
        fix = '"params": {...}'
        yield case.remark("fail", "ds.scheduler", ("scheduler",), told, leads=_START, fix=fix)
        return
    call, place = case.schema.schedulers.get(name), ("scheduler", "params")
    if call is None:
        return
    yield from unknown_parameters(case, place, given["params"], call.all, name)
    for each in call.required:
        if each not in given["params"]:
            value = '"auto"' if case.situation.reader == "transformers" else "N"
            told = f"{name} without {each}"
            fix = f'"{each}": {value} in scheduler.params'
            yield case.remark("fail", "ds.scheduler", place, told, leads=_START, fix=fix)
    yield from _steps(case, (*place, "warmup_num_steps"))


def _steps(case: Case, place: Place) -> Iterator[Remark]:
    parameters = case.section("scheduler", "params")
    warmup, total = parameters.get("warmup_num_steps"), parameters.get("total_num_steps")
    if warmup is None or warmup == "auto":
        return
    if not isinstance(warmup, int) or isinstance(warmup, bool) or warmup <= 0:
        severe = _version(case) >= _SINCE
        yield case.remark(
            "fail" if severe else "warn",
            "ds.scheduler",
            place,
            f"warmup_num_steps is {shown(warmup)}, and must be a whole number above 0",
            leads=_START if severe else "DeepSpeed before 0.19.6 takes it for 2",
            fix='"warmup_num_steps": 1',
        )
    elif isinstance(total, int) and total < warmup:
        told = f"warmup_num_steps {warmup} is more than total_num_steps {total}: the warm-up never ends"
        yield case.remark("warn", "ds.scheduler", place, told)


def _version(case: Case) -> tuple[int, ...]:
    numbers = case.schema.version.split("+")[0].split(".")[:3]
    return tuple(int(number) if number.isdigit() else 0 for number in numbers)


def _left_auto(case: Case) -> Iterator[Remark]:
    """ "auto" where DeepSpeed calculates with it."""
    places: list[Place] = [
        (key,)
        for key in ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps")
    ]
    places.append(("gradient_clipping",))
    places += [
        (what, "params", key) for what in ("optimizer", "scheduler") for key in case.section(what, "params")
    ]
    for place in places:
        if case.get(*map(str, place)) == "auto":
            yield case.remark(
                "fail",
                "ds.auto",
                place,
                f'{named(place)} is "auto", which only transformers fills in',
                leads="TypeError on every rank"
                if len(place) > 1 or "batch" in str(place[0])
                else "TypeError",
                fix="a number\nfor a file that goes to transformers' Trainer: --reader transformers",
            )
