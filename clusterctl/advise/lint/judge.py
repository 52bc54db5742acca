"""All that is to be said of one config."""

from __future__ import annotations

from collections.abc import Iterator

from clusterctl.advise.lint import (
    auto,
    batch,
    conflicts,
    dropped,
    experts,
    keys,
    optimizers,
    packages,
    precision,
    schedulers,
    split,
    transformers,
    values,
    zenflow,
)
from clusterctl.advise.lint.case import Case, Remark, counted, named, ordered
from clusterctl.advise.lint.text import Duplicate

_FAMILIES = (
    keys,
    values,
    auto,
    batch,
    optimizers,
    schedulers,
    precision,
    conflicts,
    zenflow,
    split,
    experts,
    packages,
)


def judge(case: Case) -> tuple[Remark, ...]:
    """What breaks the run first, then what is ignored, each in the order of the file."""
    found = list(_duplicates(case))
    for family in _FAMILIES:
        found += family.judge(case)
    if case.situation.reader == "transformers":
        found += [*transformers.judge(case), *dropped.judge(case)]
    return ordered(found)


def _duplicates(case: Case) -> Iterator[Remark]:
    fails = case.situation.reader == "deepspeed"

    def told(each: Duplicate) -> Remark:
        remark = case.remark(
            "fail" if fails else "warn",
            "ds.duplicate",
            each.place,
            f"{named(each.place)} is there already, in line {each.first}",
            leads="ValueError on every rank" if fails else "the later one counts, without a word",
            fix="leave one of them out",
        )
        return Remark(line=each.line, finding=remark.finding)

    yield from counted(case.document.duplicates, told)
