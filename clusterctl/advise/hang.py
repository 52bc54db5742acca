"""The verdict on ranks that seem to hang: for whom the others wait, why, and whether to stop. Pure.

Stopping a healthy run is the worse error: a run is stopped only if all of it was seen twice, nothing of it
moved, and somebody waits who can't be helped by waiting. What is not known stays not known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from clusterctl.advise import collectives, places
from clusterctl.advise.collectives import GroupState
from clusterctl.advise.hang_hints import hint
from clusterctl.advise.hang_names import Names
from clusterctl.advise.hang_verdict import FoldedStack, HangVerdict, Kind, Suspect
from clusterctl.advise.hang_words import sentence
from clusterctl.advise.rank_state import Condition, RankState, rank_states, waiters
from clusterctl.messages.evidence import Frame, HostEvidence, RankEvidence
from clusterctl.plan.model import LaunchPlan

_KINDS: Mapping[Condition, Kind] = {
    Condition.STOPPED: "stopped",
    Condition.RAISED: "raised",
    Condition.ENDED: "ended",
    Condition.LOADER_GONE: "loader",
    Condition.DISK: "disk",
    Condition.SWAPS: "swap",
    Condition.UNKNOWN: "silent",
    Condition.LOCKED: "locked",
    Condition.IDLE: "missing",
    Condition.WORKS: "works",
}
_SHOWN = 4
_STUCK = (Condition.STOPPED, Condition.RAISED, Condition.LOADER_GONE, Condition.LOCKED, Condition.WAITS)


def judge(
    first: Mapping[int, HostEvidence],
    second: Mapping[int, HostEvidence],
    plan: LaunchPlan,
    exits: Mapping[int, int] | None = None,
) -> HangVerdict:
    """What two looks at all hosts tell, each a map from node rank. ``exits``: exit codes of ranks that have
    ended so far. Never raises, whatever the hosts sent."""
    ranks = rank_states(first, second, plan, exits or {})
    ended = set(_those(ranks, Condition.ENDED))
    evidence = _of_own_hosts(second, plan)
    groups = collectives.states(
        {rank: each.recorder for rank, each in sorted(evidence.items()) if rank not in ended},
        world=tuple(ranks),
        ended=ended,
    )
    kind, named = _kind(ranks, groups)
    names = Names(ranks, groups, plan)
    stop, reason = _decision(ranks, names)
    return HangVerdict(
        kind=kind,
        stop=stop,
        sentence=sentence(kind, named, names),
        reason=reason,
        hint=hint(kind, [ranks[rank] for rank in named], groups),
        suspects=tuple(_suspect(ranks[rank], names) for rank in named),
        waiting=tuple(names.waiting),
        stacks=_folded(evidence, ranks, named, names),
        groups=groups,
        unknown=names.silent_hosts(),
    )


def _of_own_hosts(look: Mapping[int, HostEvidence], plan: LaunchPlan) -> dict[int, RankEvidence]:
    """No host is believed what it tells of another's ranks."""
    return {
        each.rank: each
        for node in plan.nodes
        if node.node_rank in look
        for each in look[node.node_rank].ranks
        if each.rank in node.ranks
    }


def _kind(ranks: Mapping[int, RankState], groups: Sequence[GroupState]) -> tuple[Kind, tuple[int, ...]]:
    """What it is, and the ranks to name for it."""
    waiting = waiters(ranks)
    if not waiting:
        alive = set(ranks) - set(_those(ranks, Condition.ENDED))
        roots = _those(ranks, Condition.WORKS) or _foremost(ranks, alive or ranks)
        kind = _KINDS[ranks[roots[0]].condition] if roots else "silent"
        return ("idle" if kind == "missing" else kind), roots
    missing = {rank for group in groups for rank in group.missing}
    roots = _foremost(ranks, {*missing, *_those(ranks, Condition.STOPPED), *_those(ranks, Condition.RAISED)})
    if roots:
        return _KINDS[ranks[roots[0]].condition], roots
    disagreement = next((group.disagreement for group in groups if group.disagreement is not None), None)
    if disagreement is not None and not missing:
        return "disagree", disagreement.variants[0][1]
    if any(ranks[rank].progress.moved for rank in waiting):
        return "moves", ()
    if missing:
        return "circle", tuple(waiting)
    outside = _foremost(ranks, _outside(ranks, groups, waiting))
    if outside:
        return _KINDS[ranks[outside[0]].condition], outside
    if len({_wait(ranks[rank]) for rank in waiting}) > 1:
        return "circle", tuple(waiting)
    if all(ranks[rank].place.waits == "point-to-point" or ranks[rank].transfer for rank in waiting):
        return "circle", tuple(waiting)
    if all(ranks[rank].place.waits == "rendezvous" for rank in waiting):
        return "rendezvous", ()
    if ranks[waiting[0]].condition is Condition.LOCKED:
        return "locked", tuple(waiting)
    return "stuck", ()


def _outside(
    ranks: Mapping[int, RankState], groups: Sequence[GroupState], waiting: Sequence[int]
) -> set[int]:
    """Those that may be waited for where nobody is known to be missing: not all members of a group are known,
    or a receive does not say from whom."""
    others = {rank for rank in ranks if rank not in waiting}
    full = [group for group in groups if group.complete]
    entered = {rank for group in full for rank in group.waiting}
    if all(rank in entered for rank in waiting):
        return {rank for group in full for rank in group.unknown} & others
    if all(ranks[rank].place.operation == "init_process_group" for rank in waiting):
        return {rank for rank in others if not ranks[rank].initialized}
    return others


def _wait(state: RankState) -> tuple[object, ...]:
    """What a rank waits in, for comparison with others."""
    oldest = min(state.waits.values(), key=lambda each: each.created, default=None)
    if oldest is not None:
        return oldest.group, oldest.operation.partition(":")[0], oldest.sequence
    return state.place.waits, state.place.operation


def _foremost(ranks: Mapping[int, RankState], of: Mapping[int, RankState] | set[int]) -> tuple[int, ...]:
    """Those of the condition that explains most; none where all of them only wait themselves."""
    order = list(Condition)
    found = [ranks[rank] for rank in sorted(of) if ranks[rank].condition is not Condition.WAITS]
    if not found:
        return ()
    best = min((state.condition for state in found), key=order.index)
    return tuple(state.rank for state in found if state.condition is best)


def _decision(ranks: Mapping[int, RankState], names: Names) -> tuple[bool, str]:
    """Whether to stop, and why."""
    unknown = _those(ranks, Condition.UNKNOWN)
    if unknown:
        return False, f"{names.who(unknown)} could not be judged, and may be at work"
    busy = [rank for rank, state in ranks.items() if state.condition in (Condition.WORKS, Condition.SWAPS)]
    if busy:
        return False, f"{names.who(busy)} {'gets' if len(busy) == 1 else 'get'} on with something"
    once = [rank for rank, state in ranks.items() if state.changed and not state.progress.comparable]
    if once:
        return False, f"{names.who(once)} could not be compared between the two looks"
    moved = [rank for rank, state in ranks.items() if state.changed]
    if moved:
        return False, f"{names.who(moved)} moved between the two looks"
    slow = [rank for rank, state in ranks.items() if state.may_come_back]
    if slow:
        return False, f"{names.who(slow)} may still be writing, and what waits for that can't be seen"
    if not any(state.condition in _STUCK for state in ranks.values()):
        return False, "no rank is known to wait for another"
    return True, "nothing moved between the two looks, and no rank works"


def _suspect(state: RankState, names: Names) -> Suspect:
    return Suspect(
        rank=state.rank,
        host=state.host,
        node_rank=state.node_rank,
        pid=state.process.pid if state.process is not None else 0,
        state=state.process.state if state.process is not None else "",
        where=names.where(state),
    )


def _folded(
    evidence: Mapping[int, RankEvidence], ranks: Mapping[int, RankState], named: Sequence[int], names: Names
) -> tuple[FoldedStack, ...]:
    """The stacks of the scripts, the fewest ranks first; then other threads of the user's in ranks that are
    named, of which one may hold what the script waits for."""
    found: dict[tuple[Frame, ...], list[int]] = {}
    others = []
    for rank, each in sorted(evidence.items()):
        main = places.main_thread(each.threads)
        for thread in each.threads:
            frames = tuple(
                Frame(names.relative(frame.file, ranks[rank].node_rank), frame.line, frame.function)
                for frame in thread.frames
            )
            if thread is main:
                found.setdefault(frames, []).append(rank)
            elif rank in named[:_SHOWN] and places.of_frames(thread.frames).own is not None:
                others.append(
                    FoldedStack(ranks=(rank,), thread=thread.name or "without a name", frames=frames)
                )
    fewest = sorted(found.items(), key=lambda item: (len(item[1]), item[1]))
    folded = [FoldedStack(ranks=tuple(ranks), frames=frames) for frames, ranks in fewest]
    return (*folded, *others[:_SHOWN])


def _those(ranks: Mapping[int, RankState], condition: Condition) -> tuple[int, ...]:
    return tuple(rank for rank, state in ranks.items() if state.condition is condition)
