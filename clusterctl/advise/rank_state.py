"""What one rank does, of its two looks: it works, waits for others, is stuck, or nobody knows. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from enum import Enum

import msgspec

from clusterctl.advise import collectives, places
from clusterctl.advise.collectives import Key
from clusterctl.advise.places import Place
from clusterctl.advise.progress import Progress, progress, script
from clusterctl.messages.evidence import Collective, HostEvidence, ProcessLook, RankEvidence
from clusterctl.plan.model import LaunchPlan

_SWAPPED = 100.0
"""Pages per second that a host moves to and from swap while it suffers."""
_COMPILERS = re.compile(r"\b(ninja|nvcc|cicc|ptxas|cudafe\+\+|cc1plus|c\+\+|g\+\+|clang|ld|hipcc)\b")
_FILE_SERVER = re.compile(r"nfs|rpc_|fuse|request_wait_answer|ceph|lustre|ll_|ptlrpc|gpfs|cxi|p9_|cifs|smb")
_FUSE = re.compile(r"fuse|request_wait_answer")
_WRITE_BACK = re.compile(r"writeback|fsync|sync_|balance_dirty|jbd2|commit|flush|fuse|request_wait_answer")


class Condition(Enum):
    """In the order in which they explain a hang: of ranks that others wait for, the first is named."""

    STOPPED = "stopped"
    RAISED = "raised"
    ENDED = "ended"
    LOADER_GONE = "loader gone"
    DISK = "disk"
    SWAPS = "swaps"
    UNKNOWN = "unknown"
    LOCKED = "locked"
    IDLE = "idle"
    WORKS = "works"
    WAITS = "waits"


class RankState(msgspec.Struct, frozen=True, kw_only=True):
    """``seen``: its host told of it. ``saves``: somewhere in its stacks something is written;
    ``writes_behind``: by a thread that is not the script's. ``process`` is what explains the condition: the
    script's own or a child; None where there is none. ``child``: the command of the one it began last.
    ``raised``: the exception that ended its script."""

    rank: int
    host: str
    node_rank: int
    condition: Condition
    place: Place = Place()
    progress: Progress = Progress(comparable=False)
    waits: dict[Key, Collective] = {}
    transfer: Collective | None = None
    initialized: bool = False
    seen: bool = False
    saves: bool = False
    writes_behind: bool = False
    process: ProcessLook | None = None
    child: str = ""
    code: int = 0
    raised: str = ""
    unseen: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """Something about it is not as it was at the first look, or cannot be compared."""
        if self.condition is Condition.ENDED:
            return False
        if self.condition in (Condition.WORKS, Condition.SWAPS, Condition.UNKNOWN):
            return True
        return not self.progress.comparable or self.progress.moved

    @property
    def may_come_back(self) -> bool:
        """Whether it waits for a disk or a file server that may only be slow: what has been written is on its
        way without a trace in the process."""
        if self.condition is Condition.DISK:
            wchan = self.process.wchan if self.process is not None else ""
            return self.saves or self.place.inner is None or bool(_WRITE_BACK.search(wchan))
        return self.condition is Condition.IDLE and self.writes_behind


def rank_states(
    first: Mapping[int, HostEvidence],
    second: Mapping[int, HostEvidence],
    plan: LaunchPlan,
    exits: Mapping[int, int],
) -> dict[int, RankState]:
    """All ranks of the plan, in order."""
    found: dict[int, RankState] = {}
    for node in plan.nodes:
        before, after = first.get(node.node_rank), second.get(node.node_rank)
        earlier = {each.rank: each for each in before.ranks} if before is not None else {}
        later = {each.rank: each for each in after.ranks} if after is not None else {}
        seconds = after.time - before.time if before is not None and after is not None else 0.0
        for rank in node.ranks:
            found[rank] = _state(
                RankState(rank=rank, host=node.host, node_rank=node.node_rank, condition=Condition.UNKNOWN),
                earlier.get(rank),
                later.get(rank),
                seconds,
                swapped=_swapped(before, after),
                code=exits.get(rank),
            )
    return dict(sorted(found.items()))


def _state(
    unknown: RankState,
    first: RankEvidence | None,
    second: RankEvidence | None,
    seconds: float,
    *,
    swapped: int,
    code: int | None,
) -> RankState:
    if code is not None:
        return msgspec.structs.replace(unknown, condition=Condition.ENDED, code=code)
    if second is None:
        return unknown
    done = progress(first, second, seconds)
    known = msgspec.structs.replace(
        unknown,
        place=places.place(second.threads),
        progress=done,
        waits=collectives.pending(second.recorder),
        transfer=collectives.pending_transfer(second.recorder),
        initialized=collectives.has_groups(second.recorder),
        seen=True,
        saves=places.saves(second.threads),
        writes_behind=places.writes_behind(second.threads),
        process=script(second.processes),
        child=_newest_child(second.processes),
        raised=second.raised,
        unseen=second.unseen,
    )
    condition, process = _condition(known, first, second, swapped=swapped)
    return msgspec.structs.replace(known, condition=condition, process=process)


def _condition(
    known: RankState, first: RankEvidence | None, second: RankEvidence, *, swapped: int
) -> tuple[Condition, ProcessLook | None]:
    done, place = known.progress, known.place
    earlier, own = script(first.processes) if first is not None else None, script(second.processes)
    if first is None or earlier is None or own is None:
        waits = known.waits or place.waits not in ("", "lock file")
        return (Condition.WAITS if waits else Condition.UNKNOWN), own
    if own.state == "T" and earlier.state == "T":
        return Condition.STOPPED, own
    if own.state == "t":
        return Condition.UNKNOWN, own
    if place.doing == "workers" and not place.waits:
        if first.processes[-1] is earlier and second.processes[-1] is own:
            return Condition.LOADER_GONE, None
        dead = _dead_child(first, second)
        if dead is not None:
            return Condition.LOADER_GONE, dead
    if done.faulting and swapped >= _SWAPPED * done.seconds:
        return Condition.SWAPS, own
    if _works(known):
        return Condition.WORKS, own
    waits_in_kernel = own.state == "D" and earlier.state == "D"
    if waits_in_kernel or _FUSE.search(own.wchan):
        return Condition.DISK, own
    if known.raised and place.exiting:
        return Condition.RAISED, own
    if place.waits == "lock file":
        return Condition.LOCKED, own
    if place.waits or known.waits or known.transfer is not None:
        return Condition.WAITS, own
    return (Condition.IDLE if place.inner is not None else Condition.UNKNOWN), own


def _works(known: RankState) -> bool:
    """Whether it gets on with something of its own. Inside a collective the processor may spin, and children
    may fetch data ahead: that is no work."""
    done, place = known.progress, known.place
    if place.waits:
        return False
    if done.disk_busy or done.faulting or done.children_busy or done.fetches:
        return True
    if known.saves and done.copies:
        return True
    if done.busy or (known.process is not None and known.process.state == "R"):
        return not _spins(known)
    if place.doing == "network" and (done.traffic or done.internet):
        return True
    return done.children_changed and not known.waits


def _spins(known: RankState) -> bool:
    """A rank that has begun something on its GPU waits for it with a busy processor."""
    begun = [*known.waits.values(), *([known.transfer] if known.transfer is not None else [])]
    return not known.progress.walked and any(each.operation.startswith("nccl:") for each in begun)


def _newest_child(processes: Sequence[ProcessLook]) -> str:
    """The command of what the script's process has begun last."""
    own = script(processes)
    return next((each.command for each in reversed(processes) if own and each.parent == own.pid), "")


def _dead_child(first: RankEvidence, second: RankEvidence) -> ProcessLook | None:
    """A child that is gone, or stopped, at both looks."""
    before = {process.pid: process for process in first.processes[1:]}
    for child in second.processes[1:]:
        then = before.get(child.pid)
        if then is not None and child.state == then.state and child.state in ("Z", "X", "T"):
            return child
    return None


def waiters(ranks: Mapping[int, RankState]) -> list[int]:
    """Those that wait for others; those at a lock file, where nobody waits otherwise."""
    for condition in (Condition.WAITS, Condition.LOCKED):
        found = [rank for rank, state in ranks.items() if state.condition is condition]
        if found:
            return found
    return []


def compiles(state: RankState) -> bool:
    """Whether what keeps a rank busy is a compiler."""
    return state.place.doing == "compiling" or bool(_COMPILERS.search(state.progress.busiest_child))


def file_server(state: RankState) -> bool:
    """Whether the kernel waits for another machine, and not for a disk."""
    return state.process is not None and bool(_FILE_SERVER.search(state.process.wchan))


def _swapped(before: HostEvidence | None, after: HostEvidence | None) -> int:
    if before is None or after is None or before.swapped is None or after.swapped is None:
        return 0
    return after.swapped - before.swapped
