"""Packages that a setting needs, and that are no part of DeepSpeed."""

from __future__ import annotations

from collections.abc import Iterator

from clusterctl.advise.lint.case import Case, Remark, named
from clusterctl.advise.lint.text import Place

_SWITCHES: dict[Place, str] = {
    ("comet", "enabled"): "comet_ml",
    ("tensorboard", "enabled"): "tensorboard",
    ("wandb", "enabled"): "wandb",
}


def judge(case: Case) -> Iterator[Remark]:
    needed = {place: package for place, package in _SWITCHES.items() if case.on(*map(str, place))}
    if case.get("datastates_ckpt") is not None:
        needed[("datastates_ckpt",)] = "datastates"
    if str(case.get("optimizer", "type")).lower() in ("muadam", "muadamw", "musgd"):
        needed[("optimizer", "type")] = "mup"
    for place, package in needed.items():
        told = f"{named(place)} needs the package {package}, which DeepSpeed does not bring"
        yield case.remark("info", "ds.package", place, told)
