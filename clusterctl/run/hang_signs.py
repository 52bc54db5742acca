"""What tells that the ranks of a node do something: differences of two samples of their counters. Pure.

A rank that waits for the others is not always still: NCCL's spins with all of a core, so does a loop around a
flag, and neither touches a page it had not touched before. Threads of torch and NCCL exchange a few bytes
and read a few files all the while. So each sign has a rate below which it is none. A false silence costs two
looks at the ranks, no more.
"""

from __future__ import annotations

from clusterctl.messages.evidence import RankActivity
from clusterctl.messages.relay import Activity

_FAULTS = 10.0
"""Pages a second,"""
_FAULTS_PER_CPU = 50.0
"""and so many for each second of CPU: on a busy machine a rank that works may get next to none."""
_EXCHANGED = 2048.0
_MOVED = 64 * 1024.0
_RDMA = 64 * 1024.0

OUTSIDE = frozenset(("ranks", "output", "network"))
"""Those that no look at the ranks can bring about."""


def signs(before: Activity, after: Activity) -> frozenset[str]:
    """What has happened on a node between two samples; nothing where they tell no time apart."""
    seconds = after.moment - before.moment
    if seconds <= 0:
        return frozenset()
    known = {rank.rank: rank for rank in before.ranks}
    found: set[str] = set()
    if known.keys() != {rank.rank for rank in after.ranks}:
        found.add("ranks")
    for rank in after.ranks:
        if rank.rank in known:
            found |= _of_rank(known[rank.rank], rank, seconds)
    if after.rdma is not None and before.rdma is not None and (after.rdma - before.rdma) / seconds > _RDMA:
        found.add("network")
    return frozenset(found)


def _of_rank(before: RankActivity, after: RankActivity, seconds: float) -> set[str]:
    found = set()
    if after.printed != before.printed:
        found.add("output")
    if abs(after.exchanged - before.exchanged) / seconds > _EXCHANGED:
        found.add("network")
    if abs(after.moved - before.moved) / seconds > _MOVED or after.written != before.written:
        found.add("files")
    cpu, faults = after.cpu - before.cpu, after.faults - before.faults
    if cpu > 0 and faults / seconds > _FAULTS and faults / cpu > _FAULTS_PER_CPU:
        found.add("cpu")
    if after.compilers and cpu > 0:
        found.add("compiler")
    return found
