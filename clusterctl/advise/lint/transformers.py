"""transformers' Trainer fills "auto" in, and refuses a config that its arguments contradict."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from clusterctl.advise.lint.batch import MICRO, STEPS, TRAIN
from clusterctl.advise.lint.case import Case, Remark, named, shown
from clusterctl.advise.lint.text import Place
from clusterctl.checks.finding import Severity

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
_YES = ("true", "1", "yes", "t", "y")
_BETAS = (("adam_beta1", 0.9), ("adam_beta2", 0.999))
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
    if not isinstance(case.get("zero_optimization"), dict):
        what = "no object" if "zero_optimization" in case.document.data else "not there"
        yield case.remark(
            "fail",
            "ds.stage",
            ("zero_optimization",),
            f"zero_optimization is {what}, without which transformers takes no config",
            leads="ValueError on every rank when it makes its TrainingArguments",
            fix='"zero_optimization": {"stage": 2}; {"stage": 0} is plain data parallelism',
        )
    for place, (flag, default) in _ALIKE.items():
        yield from _number(case, place, flag, default)
    for name in _SWITCHES:
        yield from _switch(case, name)
    yield from _betas(case)
    yield from _warmup(case)
    yield from _steps(case)
    yield from _whole_batch(case)
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
    """Evaluation in 16 bits alone is enough for transformers to want it in the config."""
    value, flags = case.section(name).get("enabled"), case.situation.flags
    typed = {flag: flags[flag] for flag in (name, f"{name}_full_eval") if flag in flags}
    if not isinstance(value, bool):
        return
    if typed and any(each.lower() in _YES for each in typed.values()) != value:
        words = " ".join(f"--{flag} {each}" for flag, each in typed.items())
        told = f"{name}.enabled is {shown(value)}, and the script gets {words}"
        yield case.remark(
            "fail", "ds.mismatch", (name, "enabled"), told, leads=_REFUSED, fix='"enabled": "auto"'
        )
    elif value and flags.get(other := _SWITCHES[_SWITCHES.index(name) - 1], "").lower() in _YES:
        told = f"{name}.enabled is true, and the script gets --{other}"
        fix = '"enabled": "auto"'
        yield case.remark("fail", "ds.mismatch", (name, "enabled"), told, leads=_REFUSED, fix=fix)
    elif not typed and value:
        told = f"{name}.enabled is true; transformers' {name} is false unless the script sets it"
        fix = f'"enabled": "auto", and --{name} true for the script'
        yield case.remark("warn", "ds.mismatch", (name, "enabled"), told, leads=_REFUSED, fix=fix)


def _warmup(case: Case) -> Iterator[Remark]:
    """Warm-up of 0 steps is 1 in the config; that of a ratio depends on the data."""
    value, given = case.get(*map(str, _WARMUP)), case.situation.flags
    if not isinstance(value, int) or isinstance(value, bool) or "warmup_ratio" in given:
        return
    typed, counted = given.get("warmup_steps"), given.get("max_steps", "")
    try:
        steps = float(typed or 0)
    except ValueError:
        return
    part = 0 < steps < 1
    if part and counted.isdecimal() and int(counted):
        steps, part = math.ceil(int(counted) * steps), False
    if value == max(1, steps) and not part:
        return
    told = f"{named(_WARMUP)} is {value}, and"
    auto = '"warmup_num_steps": "auto"'
    if part:
        told = (
            f"{told} the script gets --warmup_steps {typed}, a part of steps that transformers counts itself"
        )
        leads = f"unless they are as many: {_REFUSED}"
        yield case.remark("warn", "ds.mismatch", _WARMUP, told, leads=leads, fix=auto)
    elif typed is not None:
        told = f"{told} the script gets --warmup_steps {typed}"
        yield case.remark("fail", "ds.mismatch", _WARMUP, told, leads=_REFUSED, fix=auto)
    else:
        told = f"{told} transformers has no warm-up unless the script sets it"
        fix = f"{auto}, and --warmup_steps {value} for the script"
        yield case.remark("warn", "ds.mismatch", _WARMUP, told, leads=_REFUSED, fix=fix)


def _betas(case: Case) -> Iterator[Remark]:
    place: Place = ("optimizer", "params", "betas")
    value, flags = case.get(*map(str, place)), case.situation.flags
    if not isinstance(value, list):
        return
    typed = {flag: flags[flag] for flag, _ in _BETAS if flag in flags}
    try:
        others = [float(flags.get(flag, default)) for flag, default in _BETAS]
    except ValueError:
        return
    if value == others:
        return
    given = f"{named(place)} is {value!r:.60}, and"
    if typed:
        words = " ".join(f"--{flag} {each}" for flag, each in typed.items())
        told = f"{given} the script gets {words}, which makes it {others}"
        yield case.remark("fail", "ds.mismatch", place, told, leads=_REFUSED, fix='"betas": "auto"')
    else:
        told = f"{given} transformers has {others} unless the script sets adam_beta1 and adam_beta2"
        fix = '"betas": "auto", and --adam_beta1, --adam_beta2 for the script'
        yield case.remark("warn", "ds.mismatch", place, told, leads=_REFUSED, fix=fix)


def _steps(case: Case) -> Iterator[Remark]:
    """How many there are is known where the script is told; else it depends on the data."""
    place: Place = ("scheduler", "params", "total_num_steps")
    value, typed = case.get(*map(str, place)), case.situation.flags.get("max_steps", "")
    if not isinstance(value, (int, float)) or typed == str(value):
        return
    counted = typed.isdecimal() and int(typed) > 0
    other = f"the script gets --max_steps {typed}" if counted else "transformers counts the steps itself"
    yield case.remark(
        "fail" if counted else "warn",
        "ds.mismatch",
        place,
        f"{named(place)} is {shown(value)}, and {other}",
        leads=_REFUSED if counted else f"unless they are as many: {_REFUSED}",
        fix='"total_num_steps": "auto"',
    )


def _whole_batch(case: Case) -> Iterator[Remark]:
    """By the arguments alone; the equation of the config has the sizes that stand in it."""
    value, ranks, flags = case.get(TRAIN), case.situation.ranks, case.situation.flags
    if not isinstance(value, int) or ranks is None:
        return
    sizes: list[int] = []
    in_config, typed = True, True
    for place in ((MICRO,), (STEPS,)):
        flag, default = _ALIKE[place]
        given, word = case.get(place[0]), flags.get(flag, "")
        in_config = in_config and (isinstance(given, int) or (given == "auto" and word.isdecimal()))
        typed = typed and (isinstance(given, int) or word.isdecimal())
        sizes.append(int(word) if word.isdecimal() else given if isinstance(given, int) else int(default))
    product = sizes[0] * sizes[1] * ranks
    if in_config or value == product:
        return
    told = f"{TRAIN} is {value}; transformers has {sizes[0]} (per_device_train_batch_size) x {sizes[1]} "
    told += f"(gradient_accumulation_steps) x {ranks} (ranks) = {product}"
    told += "" if typed else " unless the script sets them"
    severity: Severity = "fail" if typed else "warn"
    yield case.remark(severity, "ds.mismatch", (TRAIN,), told, leads=_REFUSED, fix=f'"{TRAIN}": "auto"')
