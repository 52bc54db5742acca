"""The optimizer that a config names, with its parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from clusterctl.advise.lint.case import Case, Remark, named, shown
from clusterctl.advise.lint.keys import suggestion, unknown_parameters
from clusterctl.advise.lint.schema import Adam
from clusterctl.advise.lint.text import Place

_START = "every rank fails in deepspeed.initialize"
_PLACE: Place = ("optimizer", "params")
_UNDER_ZERO = ("adam", "adamw", "adagrad", "lion", "muon")
"""Those that ZeRO takes without being asked twice."""
_GONE = ("onebitadam", "onebitlamb", "zerooneadam")
_WHOSE: dict[Adam, str] = {
    "torch": "torch's",
    "gpu": "DeepSpeed's FusedAdam",
    "cpu": "DeepSpeedCPUAdam, for offload",
}


def _rate(value: Any) -> bool:
    return isinstance(value, (int, float)) and value >= 0


def _pair(value: Any) -> bool:
    return (
        isinstance(value, list) and len(value) == 2 and all(isinstance(each, (int, float)) for each in value)
    )


_WANTED: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "betas": ("a list of two numbers", _pair),
    "eps": ("a number from 0 on", _rate),
    "lr": ("a number from 0 on", _rate),
    "weight_decay": ("a number from 0 on", _rate),
}


def judge(case: Case) -> Iterator[Remark]:
    given = case.section("optimizer")
    name, parameters = given.get("type"), case.section(*map(str, _PLACE))
    if name is None:
        if parameters:
            told = "optimizer has no type: its params are ignored"
            yield case.remark("warn", "ds.ignored", ("optimizer",), told, fix='"type": "AdamW"')
        return
    own = name.lower() if isinstance(name, str) and name.lower() in case.schema.optimizers else ""
    if not own and str(name) not in case.schema.torch_optimizers:
        yield _nobodys(case, str(name))
        return
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
            (*_PLACE, "max_grad_norm"),
            "max_grad_norm is not a parameter of an optimizer here",
            leads=_START,
            fix='"gradient_clipping" at the top level',
        )
        parameters = {key: value for key, value in parameters.items() if key != "max_grad_norm"}
    if own in ("adam", "adamw"):
        yield from _adam(case, name, parameters)
    elif not own:
        yield from unknown_parameters(case, _PLACE, parameters, case.schema.torch_optimizers[name].all, name)
    if own == "muon" and case.stage == 3 and case.get("zero_optimization", "reduce_scatter") is not False:
        yield case.remark(
            "fail",
            "ds.optimizer",
            ("optimizer", "type"),
            "Muon does not go with reduce_scatter at ZeRO stage 3, which is its default",
            leads=_START,
            fix='"reduce_scatter": false in zero_optimization',
        )
    if own == "lamb" and case.section("fp16").get("loss_scale", 0) not in (0, "auto"):
        told = f"{shown(name)} needs a loss scale that DeepSpeed finds by itself"
        yield case.remark(
            "fail", "ds.optimizer", ("fp16", "loss_scale"), told, leads=_START, fix='"loss_scale": 0'
        )
    if own in ("lamb", "lion") and case.situation.machines.cpu and not (own == "lion" and _offloaded(case)):
        told = f"DeepSpeed has {shown(name)} for GPUs only, and the hosts have none"
        yield case.remark(
            "fail", "ds.optimizer", ("optimizer", "type"), told, leads=_START, fix='"type": "AdamW"'
        )


def _nobodys(case: Case, name: str) -> Remark:
    known = ("AdamW", *case.schema.optimizers, *case.schema.torch_optimizers)
    gone = name.lower() in _GONE
    told = f"optimizer.type {shown(name)} is neither DeepSpeed's nor torch's"
    return case.remark(
        "fail",
        "ds.optimizer",
        ("optimizer", "type"),
        f"{told}: the 1-bit optimizers were removed, and never went with ZeRO" if gone else told,
        leads=_START,
        fix='"type": "AdamW"' if gone else suggestion(name, known),
    )


def _adam(case: Case, name: str, parameters: dict[str, Any]) -> Iterator[Remark]:
    which, lists = _which(case), case.schema.adam
    every = sorted({each for names in lists.values() for each in names})
    yield from unknown_parameters(case, _PLACE, parameters, every, name)
    for key in parameters:
        if which is not None and key in every and key not in lists[which]:
            told = f"{name} takes no {shown(key)} where it is {_WHOSE[which]}"
            fix = '"torch_adam": true in optimizer.params' if key in lists["torch"] else f'leave "{key}" out'
            yield case.remark("fail", "ds.optimizer", (*_PLACE, key), told, leads=_START, fix=fix)
    for key, (words, holds) in _WANTED.items():
        value = parameters.get(key)
        if key in parameters and value != "auto" and not holds(value):
            place = (*_PLACE, key)
            told = f"{named(place)} is {shown(value)}, not {words}"
            taken = isinstance(value, (int, float)) and key != "betas" and which != "torch"
            yield case.remark(
                "warn" if taken else "fail",
                "ds.type",
                place,
                told,
                leads="a training that goes the wrong way"
                if taken
                else "every rank fails, at the latest in its first step",
            )
    if which in ("gpu", "cpu") and case.on(*map(str, _PLACE), "amsgrad"):
        told = f"{name} has no amsgrad where it is {_WHOSE[which]}"
        fix = '"torch_adam": true in optimizer.params'
        yield case.remark("fail", "ds.optimizer", (*_PLACE, "amsgrad"), told, leads=_START, fix=fix)
    if case.situation.machines.cpu and not case.on(*map(str, _PLACE), "torch_adam"):
        yield case.remark(
            "warn",
            "ds.optimizer",
            ("optimizer", "type"),
            f"on hosts without a GPU DeepSpeed compiles its own {name} at the first start",
            leads="a minute more on every host, or an error where it has no compiler",
            fix='"torch_adam": true in optimizer.params',
        )


def _which(case: Case) -> Adam | None:
    """None where a script may offload, or not."""
    if case.on(*map(str, _PLACE), "torch_adam"):
        return "torch"
    if case.situation.reader == "script":
        return None
    return "cpu" if _offloaded(case) else "gpu"


def _offloaded(case: Case) -> bool:
    return bool(case.stage and case.device("offload_optimizer"))
