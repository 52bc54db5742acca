"""Who entered which collective: the flight recorders of all ranks, side by side. Pure.

Sequences count the collectives of one group alike on every member, so the members that have not entered the
one in which others wait are those that others wait for.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import msgspec

from clusterctl.messages.evidence import Collective, Recorder

Key = tuple[str, str]
"""A group's name and a backend: gloo and NCCL may share a group, each with a count of its own."""


class GroupState(msgspec.Struct, frozen=True, kw_only=True):
    """One group with a collective that does not end. ``members`` are those that are known; ``complete``:
    there are no others. ``waiting`` have entered ``sequence`` and are not through, ``missing`` have not
    entered it, ``unknown`` did not tell."""

    name: str
    backend: str
    title: str
    members: tuple[int, ...]
    complete: bool
    sequence: int
    operation: str
    waiting: tuple[int, ...]
    missing: tuple[int, ...] = ()
    through: tuple[int, ...] = ()
    unknown: tuple[int, ...] = ()
    disagreement: Disagreement | None = None

    @property
    def key(self) -> Key:
        return self.name, self.backend


class Disagreement(msgspec.Struct, frozen=True, kw_only=True):
    """Members that entered one collective with different things. ``variants``: what -> the ranks that did so,
    the fewest first; ``what`` is that which differs: operation, size or dtype."""

    what: str
    sequence: int
    operation: str
    variants: tuple[tuple[str, tuple[int, ...]], ...]


def pending(recorder: Recorder | None) -> dict[Key, Collective]:
    """The first collective of each group that a rank entered and is not through. One that is followed by a
    finished one of its group is finished as well, whatever its entry says."""
    found: dict[Key, Collective] = {}
    for each in _collectives(recorder):
        if each.done:
            found.pop(_key(each), None)
        else:
            found.setdefault(_key(each), each)
    return found


def pending_transfer(recorder: Recorder | None) -> Collective | None:
    """The send or receive that a rank has begun last, if it is not through and nothing came after it."""
    entries = recorder.collectives if recorder is not None else ()
    newest = entries[-1] if entries else None
    return newest if newest is not None and newest.point_to_point and not newest.done else None


def has_groups(recorder: Recorder | None) -> bool:
    """Whether the rank is through with `init_process_group`, as far as its recorder tells."""
    return recorder is not None and bool(recorder.groups or recorder.collectives)


def states(
    recorders: Mapping[int, Recorder | None], *, world: Sequence[int], ended: Collection[int]
) -> tuple[GroupState, ...]:
    """The groups in which somebody waits, by name; ``ended`` are ranks that are gone."""
    waits = {rank: pending(recorder) for rank, recorder in recorders.items()}
    keys = sorted({key for of_rank in waits.values() for key in of_rank})
    return tuple(_state(key, recorders, waits, world, ended) for key in keys)


def _state(
    key: Key,
    recorders: Mapping[int, Recorder | None],
    waits: Mapping[int, Mapping[Key, Collective]],
    world: Sequence[int],
    ended: Collection[int],
) -> GroupState:
    sequence = min(of_rank[key].sequence for of_rank in waits.values() if key in of_rank)
    entered = {
        rank: max(_sequences(recorder, key), default=0)
        for rank, recorder in recorders.items()
        if recorder is not None
    }
    members, complete, title = _members(key[0], recorders, world)
    waiting = [rank for rank in members if key in waits.get(rank, {}) and entered[rank] >= sequence]
    missing = [rank for rank in members if rank in ended or entered.get(rank, sequence) < sequence]
    unknown = [rank for rank in members if rank not in entered and rank not in ended]
    through = [rank for rank in members if rank not in {*waiting, *missing, *unknown}]
    first = next(of_rank[key] for rank, of_rank in sorted(waits.items()) if key in of_rank)
    return GroupState(
        name=key[0],
        backend=key[1],
        title=title,
        members=members,
        complete=complete,
        sequence=sequence,
        operation=bare(first.operation),
        waiting=tuple(waiting),
        missing=tuple(missing),
        through=tuple(through),
        unknown=tuple(unknown),
        disagreement=_disagreement(key, sequence, recorders),
    )


def _members(
    name: str, recorders: Mapping[int, Recorder | None], world: Sequence[int]
) -> tuple[tuple[int, ...], bool, str]:
    """The group's global ranks as far as known, whether these are all, and what to call it."""
    told: set[int] = set()
    seen: set[int] = set()
    title = ""
    for rank, recorder in recorders.items():
        if recorder is None:
            continue
        for group in recorder.groups:
            if group.name == name:
                told.update(group.ranks)
                seen.add(rank)
                title = title or group.description
        if any(each.group == name for each in recorder.collectives):
            seen.add(rank)
    if title == "default_pg" or (name == "0" and not title):
        return tuple(world), True, ""
    named = title if title and title != "undefined" else name
    if told:
        return tuple(rank for rank in world if rank in told), True, named
    return tuple(rank for rank in world if rank in seen), False, named


def _disagreement(key: Key, sequence: int, recorders: Mapping[int, Recorder | None]) -> Disagreement | None:
    """At the collective that hangs; else at the newest before it, which some backends let pass."""
    for number in range(sequence, max(sequence - 8, 0), -1):
        entries = {}
        for rank, recorder in sorted(recorders.items()):
            for each in _collectives(recorder):
                if _key(each) == key and each.sequence == number:
                    entries[rank] = each
        found = _differs(number, entries)
        if found is not None:
            return found
    return None


def _differs(sequence: int, entries: Mapping[int, Collective]) -> Disagreement | None:
    operations = {rank: bare(each.operation) for rank, each in entries.items()}
    elements = {rank: _elements(each) for rank, each in entries.items()}
    shapes = {rank: " ".join(str(list(size)) for size in _sizes(each)[:3]) for rank, each in entries.items()}
    dtypes = {rank: ", ".join(dict.fromkeys(each.dtypes)) for rank, each in entries.items()}
    compared: tuple[tuple[str, Mapping[int, object], Mapping[int, str]], ...] = (
        ("operation", operations, operations),
        ("size", elements, shapes),
        ("dtype", dtypes, dtypes),
    )
    for what, values, labels in compared:
        variants: dict[object, list[int]] = {}
        for rank, value in values.items():
            if value not in ("", None):
                variants.setdefault(value, []).append(rank)
        if len(variants) > 1:
            fewest = sorted(variants.values(), key=lambda ranks: (len(ranks), ranks))
            return Disagreement(
                what=what,
                sequence=sequence,
                operation=operations[fewest[-1][0]],
                variants=tuple((labels[ranks[0]], tuple(ranks)) for ranks in fewest),
            )
    return None


def _elements(each: Collective) -> int | None:
    """What goes over the network, where all members must give the same; None where they may differ."""
    sizes = _sizes(each)
    return sum(math.prod(size) for size in sizes) if sizes else None


def _sizes(each: Collective) -> tuple[tuple[int, ...], ...]:
    operation = bare(each.operation).lstrip("_")
    if operation.startswith(("all_to_all", "alltoall", "barrier", "coalesced")):
        return ()
    return each.output_sizes if operation.startswith("scatter") else each.input_sizes


def bare(operation: str) -> str:
    """``nccl:all_reduce`` without its backend, and ``_all_gather_base`` as users call it."""
    name = operation.rpartition(":")[2][:60]
    return {
        "_all_gather_base": "all_gather_into_tensor",
        "_allgather_base": "all_gather_into_tensor",
        "_reduce_scatter_base": "reduce_scatter_tensor",
        "_broadcast_oop": "all_gather",
        "_reduce_oop": "reduce_scatter",
    }.get(name, name)


def _collectives(recorder: Recorder | None) -> tuple[Collective, ...]:
    if recorder is None:
        return ()
    together = (each for each in recorder.collectives if not each.point_to_point)
    return tuple(sorted(together, key=lambda each: each.sequence))


def _sequences(recorder: Recorder, key: Key) -> list[int]:
    return [each.sequence for each in _collectives(recorder) if _key(each) == key]


def _key(each: Collective) -> Key:
    return each.group, each.operation.partition(":")[0]
