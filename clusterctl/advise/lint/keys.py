"""Keys that DeepSpeed does not know, refuses, ignores or has renamed, and values that it does not take."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

from clusterctl.advise.lint.case import Case, Remark, counted, named, short, shown
from clusterctl.advise.lint.schema import Field, Section
from clusterctl.advise.lint.text import Place

_OBJECTS: dict[str, tuple[str, ...]] = {
    "data_efficiency": ("data_routing", "data_sampling", "enabled", "seed"),
    "optimizer": ("legacy_fusion", "params", "type"),
    "pipeline": (),
    "scheduler": ("params", "type"),
}
"""Read key by key everywhere; a script may read more of its pipeline."""
_MONITORS = ("comet", "csv_monitor", "tensorboard", "wandb")
_START = "every rank fails in deepspeed.initialize"
_ELSEWHERE = {
    "communication_timeout": "$DEEPSPEED_TIMEOUT, in minutes; transformers has --ddp_timeout SECONDS",
    "fsdp": "leave it out: FSDP is the other way, for transformers' --fsdp",
    "fsdp_config": "that is a file for transformers' --fsdp_config, not for DeepSpeed",
    "gradient_checkpointing": "it is the script's own: model.gradient_checkpointing_enable()",
    "offload_gradients": "leave it out: gradients go with offload_optimizer",
    "gradient_compression": "leave it out: ZeRO++ quantizes at stage 3, zero_quantized_gradients",
    "grad_hooks": "leave it out: the documentation has it, DeepSpeed has not",
    "learning_rate": "optimizer.params.lr",
    "max_grad_norm": "gradient_clipping",
    "master_addr": "clusterctl launch --master-addr",
    "master_port": "clusterctl launch --master-port",
    "world_size": "leave it out: the launcher says how many ranks there are",
}
"""What people write, and where it is said instead."""
_INSTEAD = {
    "amp": "fp16, bf16 or torch_autocast",
    "curriculum_learning": "data_efficiency.data_sampling.curriculum_learning",
    "elasticity": "train_micro_batch_size_per_gpu and gradient_accumulation_steps",
    "nebula": "leave it out: checkpoints are saved by torch",
}
_COERCED = ("zero_optimization", "leaf_module")
"""Takes null for an object, and a text for a list of one."""
_TRUE = frozenset({"true", "yes", "on", "t", "y", "1", "false", "no", "off", "f", "n", "0"})
_WORDS = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "dict": "an object",
    "section": "an object",
    "list": "a list",
    "null": "null",
}


def judge(case: Case) -> Iterator[Remark]:
    yield from _top(case)
    for name, section in case.schema.strict.items():
        value = case.get(name)
        if name == "bfloat16" and case.get("bf16") is not None:
            continue  # its old name, which is looked at where the new one is not there
        if isinstance(value, dict):
            yield from _strict(case, (name,), value, section)
        elif name in case.document.data and not _may_be_plain(name, value):
            yield _no_object(case, name, value)
    for name, known in case.schema.loose.items():
        value = case.get(name)
        if isinstance(value, dict):
            yield from _loose(case, name, value, known)
        elif name in case.document.data and not _may_be_plain(name, value):
            yield _no_object(case, name, value)
    for name, known in _OBJECTS.items():
        value = case.get(name)
        if isinstance(value, dict) and known:
            yield from _loose(case, name, value, known)
        elif name in case.document.data and not isinstance(value, dict):
            yield _no_object(case, name, value)


def _may_be_plain(name: str, value: Any) -> bool:
    """What DeepSpeed takes all the same, such as the oldest form of zero_optimization."""
    if name in _MONITORS and value == "auto":
        return True
    if name in ("aio", "bf16") and value is None:
        return True
    if name == "expert_parallel":
        return not value
    return name == "zero_optimization" and isinstance(value, bool)


def _no_object(case: Case, name: str, value: Any) -> Remark:
    fix = f'leave "{name}" out' if value is None else f'"{name}": {{...}}'
    return case.remark(
        "fail", "ds.type", (name,), f"{name} is {shown(value)}, not an object", leads=_START, fix=fix
    )


def _top(case: Case) -> Iterator[Remark]:
    schema = case.schema
    for key in case.document.data:
        if key in schema.removed:
            yield case.remark(
                "fail",
                "ds.removed",
                (key,),
                f"{key} was removed from DeepSpeed; {schema.version} refuses it",
                leads=_START,
                fix=_INSTEAD.get(key, f'leave "{key}" out'),
            )
    strangers = [key for key in case.document.data if key not in schema.removed and key not in schema.top]
    yield from counted([key for key in strangers if not _is_comment(key)], partial(_unknown_at_top, case))


def _unknown_at_top(case: Case, key: str) -> Remark:
    told = f"DeepSpeed has no {shown(key)} and ignores it without a word"
    fix = _home(case, key) or _meant(key, case.schema.top)
    return case.remark("warn", "ds.unknown-key", (key,), told, fix=fix)


def _is_comment(key: str) -> bool:
    """JSON has none: people write keys that nobody reads."""
    return key.startswith(("_", "//", "#", "$")) or key.lower() in ("comment", "comments", "description")


def _home(case: Case, key: str) -> str:
    """Where a key belongs that stands at the top."""
    if key in _ELSEWHERE:
        return _ELSEWHERE[key]
    inside = [name for name, section in case.schema.strict.items() if section.field(key) is not None]
    inside += [name for name, known in case.schema.loose.items() if key in known]
    return f"it belongs inside {inside[0]}" if len(inside) == 1 else ""


def _strict(case: Case, place: Place, values: dict[str, Any], section: Section) -> Iterator[Remark]:
    strangers: list[Place] = []
    for key, value in values.items():
        inner = (*place, key)
        field = section.field(key)
        if place == ("zero_optimization",) and key in case.schema.removed_zero:
            yield case.remark(
                "fail",
                "ds.removed",
                inner,
                f"{named(inner)} was removed from DeepSpeed; {case.schema.version} refuses it",
                leads=_START,
                fix=f'leave "{key}" out',
            )
        elif field is None:
            strangers.append(inner)
        elif value == "auto":
            yield from _auto(case, inner, field)
        else:
            yield from _value(case, inner, value, field)
            written = {each.name for each in map(section.field, values) if each is not None}
            yield from _deprecated(case, inner, field, written)
    yield from counted(strangers, partial(_unknown, case, section))


def _unknown(case: Case, section: Section, place: Place) -> Remark:
    key, outer = str(place[-1]), named(place[:-1])
    fix = _ELSEWHERE.get(key) or _meant(key, section.keys)
    if not fix and key in case.schema.top:
        fix = "it belongs at the top level"
    if section.forbids:
        told = f"{outer} has no {shown(key)} and refuses what it does not know"
        return case.remark("fail", "ds.unknown-key", place, told, leads=_START, fix=fix)
    told = f"{outer} has no {shown(key)} and ignores it without a word"
    return case.remark("warn", "ds.unknown-key", place, told, fix=fix)


def _loose(case: Case, name: str, values: dict[str, Any], known: tuple[str, ...]) -> Iterator[Remark]:
    def told(key: str) -> Remark:
        what = f"{name} has no {shown(key)} and ignores it without a word"
        fix = _meant(key, known) or (f"it belongs inside {name}.params" if "params" in known else "")
        return case.remark("warn", "ds.unknown-key", (name, key), what, fix=fix)

    yield from counted([key for key in values if key not in known and not _is_comment(key)], told)


def _auto(case: Case, place: Place, field: Field) -> Iterator[Remark]:
    if case.situation.reader == "deepspeed" and "str" not in field.kinds and "any" not in field.kinds:
        yield case.remark(
            "warn",
            "ds.auto",
            place,
            f'{named(place)} is "auto", which only transformers fills in: here its default is used',
            fix="a value, or leave it out",
        )


def _deprecated(case: Case, place: Place, field: Field, written: set[str]) -> Iterator[Remark]:
    if not field.deprecated:
        return
    if field.instead in written:
        yield case.remark(
            "fail",
            "ds.deprecated",
            place,
            f"{named(place)} and {field.instead}, which has taken its place, are both there",
            leads=_START,
            fix=f'leave "{place[-1]}" out',
        )
    else:
        yield case.remark(
            "warn", "ds.deprecated", place, f"{named(place)} is deprecated", fix=f'"{field.instead}"'
        )


def _value(case: Case, place: Place, value: Any, field: Field) -> Iterator[Remark]:
    if field.section is not None and isinstance(value, dict):
        yield from _strict(case, place, value, field.section)
        return
    if place[:2] == _COERCED and (value is None if place == _COERCED else isinstance(value, str)):
        return
    number = _taken(value, field)
    if number is False:
        yield case.remark(
            "fail", "ds.type", place, f"{named(place)} is {shown(value)}, not {_wanted(field)}", leads=_START
        )
        return
    if isinstance(number, float) and (bound := _outside(number, field)):
        told = f"{named(place)} is {shown(value)}, and must be {bound}"
        yield case.remark("fail", "ds.type", place, told, leads=_START)


def _outside(number: float, field: Field) -> str:
    """The bound that it breaks."""
    if field.ge is not None and not number >= field.ge:
        return f"at least {field.ge:g}"
    if field.gt is not None and not number > field.gt:
        return f"above {field.gt:g}"
    if field.le is not None and not number <= field.le:
        return f"at most {field.le:g}"
    if field.lt is not None and not number < field.lt:
        return f"below {field.lt:g}"
    return ""


def _taken(value: Any, field: Field) -> bool | float:
    """Whether pydantic takes it, as it takes much: "5" for 5, 1 for true. The number, where it is one."""
    kinds = field.kinds
    if "any" in kinds or (value is None and "null" in kinds):
        return True
    if "choice" in kinds and (
        not field.choices or value in field.choices or str(value) in map(str, field.choices)
    ):
        return True
    if isinstance(value, dict):
        return "dict" in kinds
    if isinstance(value, list):
        return "list" in kinds
    if isinstance(value, str) and "str" in kinds:
        return True
    if "bool" in kinds and (str(value).lower() in _TRUE or value in (0, 1)):
        return True
    if value is None or not {"int", "float"} & set(kinds):
        return False
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return False
    if "float" in kinds:
        return number
    return number if number.is_integer() and (isinstance(value, int) or abs(number) < 2**63) else False


def _wanted(field: Field) -> str:
    words = [_WORDS[kind] for kind in field.kinds if kind in _WORDS and kind != "null"]
    words += [", ".join(str(choice) for choice in field.choices)] if field.choices else []
    return " or ".join(dict.fromkeys(words)) or "what it takes"


def _meant(key: str, known: Iterable[str]) -> str:
    alike = difflib.get_close_matches(key, tuple(known), n=1, cutoff=0.7)
    return f'did you mean "{alike[0]}"?' if alike else ""


def suggestion(word: str, known: Iterable[str]) -> str:
    """The name that was meant, where one is alike, whatever its capitals."""
    by_lower = {each.lower(): each for each in known}
    alike = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.7)
    return f'did you mean "{by_lower[alike[0]]}"?' if alike else ""


def unknown_parameters(
    case: Case, place: Place, values: dict[str, Any], known: Iterable[str], whose: str
) -> Iterator[Remark]:
    """Of a class that a config names: it raises TypeError for what it does not know."""
    names = tuple(known)

    def told(key: str) -> Remark:
        what = f"{short(whose)} takes no {shown(key)}"
        fix = _meant(key, names)
        return case.remark("fail", "ds.unknown-key", (*place, key), what, leads=_START, fix=fix)

    yield from counted([key for key in values if key not in names], told)
