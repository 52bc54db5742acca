"""transformers' Trainer fills "auto" in, and refuses a config that its arguments contradict."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from clusterctl.advise.lint.case import Case, Remark, named, shown
from clusterctl.advise.lint.text import Place

_REFUSED = "ValueError on every rank: config values that mismatch TrainingArguments"
_ALIKE = {
    ("train_micro_batch_size_per_gpu",): ("per_device_train_batch_size", 8.0),
    ("gradient_accumulation_steps",): ("gradient_accumulation_steps", 1.0),
    ("gradient_clipping",): ("max_grad_norm", 1.0),
    ("optimizer", "params", "lr"): ("learning_rate", 5e-5),
    ("optimizer", "params", "eps"): ("adam_epsilon", 1e-8),
    ("optimizer", "params", "weight_decay"): ("weight_decay", 0.0),
    ("scheduler", "params", "warmup_max_lr"): ("learning_rate", 5e-5),
}
"""Where the two say the same thing: the argument, and its default."""
_WARMUP: Place = ("scheduler", "params", "warmup_num_steps")
_SWITCHES = ("fp16", "bf16")
_OWN = frozenset({"ddp_timeout", "do_train", "num_train_epochs", "per_device_train_batch_size"})
"""Arguments that are the Trainer's in any script."""


def flags(words: Sequence[str]) -> dict[str, str]:
    """``--name value``, ``--name=value`` and ``--switch`` (then ``true``), as transformers spells them."""
    found: dict[str, str] = {}
    name = ""
    for word in words:
        if word.startswith("--") and len(word) > 2:
            name, equals, value = word[2:].partition("=")
            name = name.replace("-", "_")
            found[name] = value if equals else "true"
            name = "" if equals else name
        elif name:
            found[name], name = word, ""
    return found


def is_meant(flags: Mapping[str, str]) -> bool:
    """Whether a script with these arguments is the Trainer's."""
    return not _OWN.isdisjoint(flags)


def judge(case: Case) -> Iterator[Remark]:
    for each in case.document.relaxed:
        yield Remark(
            line=each.line,
            finding=case.remark(
                "fail",
                "ds.json",
                (),
                f"{each.what}, which transformers' JSON reader does not take; DeepSpeed alone would",
                leads="every rank fails when it reads its arguments",
                fix="leave it out",
            ).finding,
        )
    if "zero_optimization" not in case.document.data:
        yield case.remark(
            "fail",
            "ds.stage",
            (),
            "zero_optimization is not there, without which transformers takes no config",
            leads="ValueError on every rank when it makes its TrainingArguments",
            fix='"zero_optimization": {"stage": 2}; {"stage": 0} is plain data parallelism',
        )
    for place, (flag, default) in _ALIKE.items():
        yield from _number(case, place, flag, default)
    for name in _SWITCHES:
        yield from _switch(case, name)
    yield from _warmup(case)
    if case.get("activation_checkpointing") is not None:
        yield case.remark(
            "warn",
            "ds.ignored",
            ("activation_checkpointing",),
            "activation_checkpointing does nothing for a model of transformers",
            fix="--gradient_checkpointing true for the script",
        )


def _number(case: Case, place: Place, flag: str, default: float) -> Iterator[Remark]:
    value = case.get(*map(str, place))
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return
    typed = case.situation.flags.get(flag)
    try:
        other = default if typed is None else float(typed)
    except ValueError:
        return
    if value == other or math.isnan(other):
        return
    if typed is not None:
        told = f"{named(place)} is {shown(value)}, and the script gets --{flag} {typed}"
        yield case.remark("fail", "ds.mismatch", place, told, leads=_REFUSED, fix=f'"{place[-1]}": "auto"')
    else:
        told = (
            f"{named(place)} is {shown(value)}; transformers' {flag} is {default:g} unless the script sets it"
        )
        fix = f'"{place[-1]}": "auto", and --{flag} {shown(value)} for the script'
        yield case.remark("warn", "ds.mismatch", place, told, leads=_REFUSED, fix=fix)


def _switch(case: Case, name: str) -> Iterator[Remark]:
    value = case.section(name).get("enabled")
    typed = case.situation.flags.get(name)
    if not isinstance(value, bool):
        return
    if typed is not None and (typed.lower() in ("true", "1", "yes")) != value:
        told = f"{name}.enabled is {shown(value)}, and the script gets --{name} {typed}"
        yield case.remark(
            "fail", "ds.mismatch", (name, "enabled"), told, leads=_REFUSED, fix='"enabled": "auto"'
        )
    elif typed is None and value:
        told = f"{name}.enabled is true; transformers' {name} is false unless the script sets it"
        fix = f'"enabled": "auto", and --{name} true for the script'
        yield case.remark("warn", "ds.mismatch", (name, "enabled"), told, leads=_REFUSED, fix=fix)


def _warmup(case: Case) -> Iterator[Remark]:
    """Warm-up of 0 steps is 1 in the config; that of a ratio depends on the data."""
    value, given = case.get(*map(str, _WARMUP)), case.situation.flags
    if not isinstance(value, int) or isinstance(value, bool) or "warmup_ratio" in given:
        return
    typed = given.get("warmup_steps")
    try:
        steps = float(typed or 0)
    except ValueError:
        return
    if 0 < steps < 1 or value == max(1, steps):
        return
    told = f"{named(_WARMUP)} is {value}, and"
    auto = '"warmup_num_steps": "auto"'
    if typed is not None:
        told = f"{told} the script gets --warmup_steps {typed}"
        yield case.remark("fail", "ds.mismatch", _WARMUP, told, leads=_REFUSED, fix=auto)
    else:
        told = f"{told} transformers has no warm-up unless the script sets it"
        fix = f"{auto}, and --warmup_steps {value} for the script"
        yield case.remark("warn", "ds.mismatch", _WARMUP, told, leads=_REFUSED, fix=fix)
