"""Which checkpoint a run goes on from: the newest that is whole, for all hosts together. Pure.

On a shared file system every host sees all of it; on disks of their own each sees what its ranks wrote, and
needs that again. DeepSpeed writes ``latest`` on global rank 0 only: what it names must be put beside it on
every other host, or those begin at zero while rank 0 goes on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from clusterctl.messages.checkpoints import HostCheckpoint
from clusterctl.messages.relay import Checkpoints
from clusterctl.plan.model import LaunchPlan

_OPTIMIZER = re.compile(r"(?:bf16_|fp16_)?zero_pp_rank_(\d+)_mp_rank_(\d+)_optim_states\.pt")
_MODEL = re.compile(r"(?:.*_)?mp_rank_\d+_model_states\.pt|layer_.*model_states\.pt")
_NESTED = re.compile(r"(global_step\d+)/(.+)")
_RNG = re.compile(r"rng_state_\d+\.pth")
_WEIGHTS = re.compile(r".*\.(safetensors|bin)")


class Latest(msgspec.Struct, frozen=True):
    """On ``host`` the file ``latest`` in ``directory`` is to name ``tag``."""

    host: str
    directory: str
    tag: str


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """``tag`` is empty where nothing is whole; then the script begins anew. ``skipped``: newer ones, and why
    they cannot be used. ``directories``: where it lies, by host."""

    tag: str = ""
    step: int = 0
    directories: dict[str, str] = {}
    latest: tuple[Latest, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()


def choose(plan: LaunchPlan, seen: Mapping[str, Checkpoints]) -> Choice:
    """``seen`` has every host of ``plan``."""
    tags = {each.tag: each.step for host in seen.values() for each in host.found}
    skipped: list[tuple[str, str]] = []
    for tag in sorted(tags, key=lambda tag: (tags[tag], tag), reverse=True):
        views = {host: view for host, told in seen.items() if (view := _view(told, tag)) is not None}
        why = _why_not(plan, views)
        if not why:
            return Choice(
                tag=tag,
                step=tags[tag],
                directories={host: f"{told.directory}/{tag}" for host, told in seen.items()},
                latest=tuple(_latest(tag, views, seen)),
                skipped=tuple(skipped),
            )
        skipped.append((tag, why))
    return Choice(skipped=tuple(skipped))


def _view(told: Checkpoints, tag: str) -> HostCheckpoint | None:
    return next((each for each in told.found if each.tag == tag), None)


def _why_not(plan: LaunchPlan, views: Mapping[str, HostCheckpoint]) -> str:
    """Why this one cannot be used; empty where it can."""
    for host, view in views.items():
        for file in view.files:
            if file.problem:
                return f"{file.name} on {host}: {file.problem}"
    union = set().union(*(view.names for view in views.values()))
    expected = {name for view in views.values() for name in view.expected}
    if missing := sorted(expected - union):
        return f"{missing[0]} is missing"
    kinds = {view.kind for view in views.values()}
    if kinds == {"dcp"}:
        return "" if ".metadata" in union else "it was not finished"
    if kinds == {"trainer"}:
        return _why_not_trainer(plan, union, views)
    if kinds == {"shipped"} and (why := _why_not_shipped(plan, views)):
        return why
    return _why_not_shards(plan, union, {host: view.names for host, view in views.items()})


def _why_not_shipped(plan: LaunchPlan, views: Mapping[str, HostCheckpoint]) -> str:
    worlds = {view.world_size for view in views.values()}
    if None in worlds or len(worlds) > 1:
        return "it was not finished"
    (world,) = worlds
    return "" if world == plan.world_size else f"written by {world} ranks, this run has {plan.world_size}"


def _why_not_trainer(plan: LaunchPlan, union: set[str], views: Mapping[str, HostCheckpoint]) -> str:
    if "trainer_state.json" not in union:
        return "trainer_state.json is missing"
    states = sum(bool(_RNG.fullmatch(name)) for name in union)
    if states not in (0, plan.world_size):
        return f"{states} of {plan.world_size} random states"
    nested = {name for name in union if _NESTED.fullmatch(name)}
    if not nested:
        return "" if any(_WEIGHTS.fullmatch(name) for name in union) else "no weights"
    inner = {
        host: {_inner(name) for name in view.names if _NESTED.fullmatch(name)} for host, view in views.items()
    }
    return _why_not_shards(plan, {_inner(name) for name in nested}, inner)


def _inner(name: str) -> str:
    return name.partition("/")[2]


def _why_not_shards(plan: LaunchPlan, union: set[str], on: Mapping[str, set[str]]) -> str:
    """Of DeepSpeed's: those of all ranks somewhere, those of its own ranks on each host."""
    if not any(_MODEL.fullmatch(name) for name in union):
        return "no model states"
    found = {(int(match[1]), int(match[2])) for name in union if (match := _OPTIMIZER.fullmatch(name))}
    if not found:
        return ""  # without ZeRO the model states hold everything
    if len(found) != plan.world_size:
        grid = (1 + max(dp for dp, _ in found)) * (1 + max(mp for _, mp in found))
        if len(found) == grid and grid > plan.world_size:
            return f"written by {grid} ranks, this run has {plan.world_size}"
        return f"{len(found)} of {plan.world_size} optimizer shards"
    for node in plan.nodes:
        names = on.get(node.host, set())
        if not any(_MODEL.fullmatch(name) for name in names):
            return f"{node.host} holds nothing of it"
        own = {int(match[1]) for name in names if (match := _OPTIMIZER.fullmatch(name))}
        if all(mp == 0 for _, mp in found) and (lacking := sorted(set(node.ranks) - own)):
            return f"{node.host} lacks the shard of its rank {lacking[0]}"
    return ""


def _latest(tag: str, views: Mapping[str, HostCheckpoint], seen: Mapping[str, Checkpoints]) -> list[Latest]:
    """What to write where, for formats that have such a file."""
    kind = next(iter(views.values())).kind
    found = []
    for host, told in seen.items():
        view = views.get(host)
        if kind == "deepspeed" and told.latest != tag:
            found.append(Latest(host, told.directory, tag))
        elif kind == "trainer" and view is not None:
            inner = {name.partition("/")[0] for name in view.names if _NESTED.fullmatch(name)}
            if inner and view.latest not in inner:
                found.append(Latest(host, f"{told.directory}/{tag}", max(inner)))
    return found
