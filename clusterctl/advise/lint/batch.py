"""train_batch_size = train_micro_batch_size_per_gpu x gradient_accumulation_steps x ranks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import msgspec

from clusterctl.advise.lint.case import Case, Remark, shown

TRAIN = "train_batch_size"
MICRO = "train_micro_batch_size_per_gpu"
STEPS = "gradient_accumulation_steps"
CODE = "ds.batch"
_START = "every rank fails in deepspeed.initialize"
_FLAGS = {MICRO: "per_device_train_batch_size", STEPS: "gradient_accumulation_steps"}
"""What fills "auto" in for transformers."""


class Sizes(msgspec.Struct, frozen=True):
    """None: not given."""

    train: int | None
    micro: int | None
    steps: int | None


def complete(given: Sizes, ranks: int) -> Sizes | None:
    """What DeepSpeed makes of two of them, or of one; None where that is not enough."""
    train, micro, steps = given.train, given.micro, given.steps
    if train is None and micro is None:
        return None
    if train is not None and micro is not None:
        steps = steps if steps is not None else (train // micro) // ranks if micro else 0
    elif train is not None:
        steps = 1 if steps is None else steps
        micro = (train // ranks) // steps if steps else 0
    elif micro is not None:
        steps = 1 if steps is None else steps
        train = micro * steps * ranks
    return Sizes(train, micro, steps)


def judge(case: Case) -> Iterator[Remark]:
    values = {key: case.get(key) for key in (TRAIN, MICRO, STEPS)}
    wrong = [key for key, value in values.items() if not _usable(case, value)]
    for key in wrong:
        value = values[key]
        starts = isinstance(value, (int, float)) and 0 < value < math.inf
        starts = starts and (key != TRAIN or value == int(value))
        yield case.remark(
            "warn" if starts else "fail",
            CODE,
            (key,),
            f"{key} is {shown(value)}, not a whole number above 0",
            leads="DeepSpeed starts with it, and counts wrongly" if starts else _START,
        )
    if wrong:
        return
    if case.get(TRAIN) is None and case.get(MICRO) is None:
        yield from _neither(case)
        return
    if case.situation.reader != "deepspeed" and "auto" in values.values():
        values = {key: _filled(case, key, value) for key, value in values.items()}
        if "auto" in values.values():
            return
    if "auto" in values.values():
        return  # that is said where "auto" is judged
    given = Sizes(*(int(value) if value is not None else None for value in values.values()))
    yield from _equation(case, given)


def _neither(case: Case) -> Iterator[Remark]:
    ways = {
        "deepspeed": f'"{MICRO}": 1, and "{STEPS}"; {TRAIN} follows from them',
        "transformers": f'"{MICRO}": "auto", and "{STEPS}": "auto"',
    }
    if fix := ways.get(case.situation.reader):
        told = f"neither {TRAIN} nor {MICRO} is given"
        yield case.remark("fail", CODE, (STEPS,), told, leads=_START, fix=fix)


def _equation(case: Case, given: Sizes) -> Iterator[Remark]:
    if case.situation.ranks is None:
        yield from _for_which(case, given)
        return
    yield from _mesh(case, case.situation.ranks)
    share, split = _shares(case)
    ranks, rest = divmod(case.situation.ranks, share * split)
    if rest:
        yield case.remark(
            "fail" if case.situation.ranks % split else "warn",
            CODE,
            ("tensor_parallel", "autotp_size") if split > 1 else ("sequence_parallel_size",),
            f"{case.situation.ranks} ranks cannot be divided into groups of "
            + " x ".join(str(size) for size in (share, split) if size > 1),
            leads=_START,
        )
        return
    full = complete(given, ranks)
    if full is None or full.train is None or full.micro is None or full.steps is None or _holds(full, ranks):
        return
    stages = _stages(case, given, ranks)
    if stages:
        told = f"{TRAIN} {full.train} is right for {ranks} ranks in a pipeline of {stages} stages"
        yield case.remark("info", CODE, (TRAIN,), told)
        return
    yield case.remark(
        "fail",
        CODE,
        (TRAIN,),
        _sum(given, full, ranks),
        leads="AssertionError on every rank, unless the script has model parallelism of its own",
        fix=_ways(given, full, ranks),
    )


def _holds(sizes: Sizes, ranks: int) -> bool:
    if not sizes.train or sizes.micro is None or sizes.steps is None:
        return False
    return sizes.train == sizes.micro * sizes.steps * ranks


def _stages(case: Case, given: Sizes, ranks: int) -> int:
    """With so many stages the batch is right: how many there are is the script's, where it has a pipeline."""
    if not isinstance(case.get("pipeline"), dict):
        return 0
    for stages in range(2, ranks + 1):
        full = complete(given, ranks // stages) if ranks % stages == 0 else None
        if full is not None and _holds(full, ranks // stages):
            return stages
    return 0


def _sum(given: Sizes, full: Sizes, ranks: int) -> str:
    if given.micro is not None and given.steps is not None:
        product = given.micro * given.steps * ranks
        return (
            f"{TRAIN} is {given.train}, but {given.micro} (micro batch) x {given.steps} (accumulation) x "
            f"{ranks} (ranks) is {product}"
        )
    if given.micro is not None:
        return f"{TRAIN} {given.train} cannot be {given.micro} (micro batch) x N x {ranks} (ranks)"
    if given.steps is not None:
        return f"{TRAIN} {given.train} cannot be N x {given.steps} (accumulation) x {ranks} (ranks)"
    return f"{TRAIN} {given.train} cannot be divided by {ranks} ranks"


def _ways(given: Sizes, full: Sizes, ranks: int) -> str:
    """What to write instead: what follows from the rest first, then what keeps the batch."""
    train, micro, steps = given.train or 0, given.micro, given.steps
    unit = (micro or 1) * ranks * (steps or 1 if micro is None or steps is not None else 1)
    near = micro * steps * ranks if micro and steps else max(train // unit, 1) * unit
    ways = [f'"{TRAIN}": {near}, or leave it out where the other two are given']
    if micro and train and train % (micro * ranks) == 0:
        ways.append(f'"{STEPS}": {train // (micro * ranks)} keeps {TRAIN} {train}')
    elif steps and train and train % (steps * ranks) == 0:
        ways.append(f'"{MICRO}": {train // (steps * ranks)} keeps {TRAIN} {train}')
    return "\n".join(ways)


def _for_which(case: Case, given: Sizes) -> Iterator[Remark]:
    """With a batch for all ranks the file is right for some numbers of ranks only."""
    if given.train is None or given.micro is None or given.steps is None:
        return
    unit = given.micro * given.steps
    told = f"{TRAIN} {given.train} = {given.micro} x {given.steps} x ranks"
    if given.train % unit:
        yield case.remark(
            "fail",
            CODE,
            (TRAIN,),
            f"{told} holds for no number of ranks",
            leads="AssertionError on every rank",
            fix=f'leave "{TRAIN}" out: it follows from the others',
        )
        return
    count = given.train // unit
    yield case.remark(
        "info", CODE, (TRAIN,), f"{told} holds for {count} rank{'s' * (count != 1)} only; --ranks N checks it"
    )


def _mesh(case: Case, ranks: int) -> Iterator[Remark]:
    """Both sizes together make DeepSpeed arrange the ranks in a mesh."""
    sizes = (case.get("data_parallel_size"), case.get("sequence_parallel_size"))
    if all(isinstance(size, int) for size in sizes) and sizes[0] * sizes[1] > ranks:
        told = f"data_parallel_size {sizes[0]} x sequence_parallel_size {sizes[1]} is more than {ranks} ranks"
        yield case.remark("fail", CODE, ("data_parallel_size",), told, leads=_START)


def _shares(case: Case) -> tuple[int, int]:
    """How many ranks share their data: those of a sequence, and those of a split layer."""
    sizes = (case.get("sequence_parallel_size"), case.section("tensor_parallel").get("autotp_size"))
    share, split = (size if isinstance(size, int) and size > 0 else 1 for size in sizes)
    return share, split


def _usable(case: Case, value: Any) -> bool:
    if value is None or value == "auto":
        return True
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _filled(case: Case, key: str, value: Any) -> Any:
    """ "auto" by transformers' arguments; one that was not typed may be set by the script."""
    if value != "auto" or case.situation.reader != "transformers":
        return value
    if key == TRAIN:
        return None
    typed = case.situation.flags.get(_FLAGS[key], "")
    return int(typed) if typed.isdecimal() and int(typed) > 0 else value
