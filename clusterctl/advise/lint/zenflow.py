"""ZenFlow, offload that updates the important gradients first: what it needs beside it."""

from __future__ import annotations

from collections.abc import Iterator

from clusterctl.advise.lint.case import Case, Remark, shown

_START = "every rank fails in deepspeed.initialize"
_ZERO = "zero_optimization"
_PLACE = (_ZERO, "zenflow")
_STRATEGIES = ("auto", "step", "epoch")


def judge(case: Case) -> Iterator[Remark]:
    if not isinstance(case.get(*_PLACE), dict):
        return
    given = case.section(*_PLACE)
    strategy, update = given.get("select_strategy", "auto"), given.get("update_interval", "auto")
    if strategy not in _STRATEGIES:
        yield _refused(
            case, "select_strategy", f"zenflow.select_strategy is {shown(strategy)}, not auto, step or epoch"
        )
    if update != "auto" and (isinstance(update, str) or (isinstance(update, int) and update < 1)):
        yield _refused(
            case, "update_interval", f'zenflow.update_interval is {shown(update)}, not "auto" or 1 or more'
        )
    if not case.stage:
        return
    interval = given.get("select_interval", "auto")
    if strategy == "auto" and not isinstance(interval, str):
        told = "zenflow.select_interval is given, and select_strategy auto finds one by itself"
        yield _refused(case, "select_interval", told, fix='"select_strategy": "step" or "epoch"')
    elif isinstance(interval, str) and (interval != "auto" or strategy in _STRATEGIES[1:]):
        told = f"zenflow.select_interval is {shown(interval)}, not a number"
        yield _refused(case, "select_interval", told)
    if case.stage in (1, 2) and not case.device("offload_optimizer"):
        fix = '"offload_optimizer": {"device": "cpu"}'
        yield _refused(case, "", "zenflow without offload_optimizer", fix=fix)
    elif case.stage in (1, 2) and case.on(*_PLACE, "offload") and not case.on(_ZERO, "overlap_comm"):
        yield _refused(case, "offload", "zenflow.offload needs overlap_comm", fix='"overlap_comm": true')


def _refused(case: Case, key: str, told: str, *, fix: str = "") -> Remark:
    place = (*_PLACE, key) if key else _PLACE
    return case.remark("fail", "ds.stage", place, told, leads=_START, fix=fix)
