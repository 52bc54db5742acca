"""Evidence of ranks with NCCL, written by hand from torch's documented formats: hosts of 8 GPUs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec.structs import replace

from clusterctl.messages.evidence import (
    Collective,
    Frame,
    Group,
    HostEvidence,
    ProcessLook,
    RankEvidence,
    Recorder,
    ThreadStack,
)
from tests.hangs.fixtures import HERE

TORCH = "/opt/env/lib/python3.11/site-packages/torch"


def frames(*told: tuple[str, int, str]) -> tuple[Frame, ...]:
    return tuple(Frame(file if file[0] == "/" else f"{HERE}/{file}", line, name) for file, line, name in told)


def stack(*told: tuple[str, int, str]) -> tuple[ThreadStack, ...]:
    return (
        ThreadStack(
            main=True, frames=frames(*told, ("train.py", 300, "main"), ("train.py", 310, "<module>"))
        ),
    )


SYNCHRONIZE = stack((f"{TORCH}/cuda/__init__.py", 1040, "synchronize"), ("train.py", 141, "step"))
ITEM = stack(("train.py", 142, "step"))
LOADER = stack(
    ("/usr/lib/python3.11/selectors.py", 415, "select"),
    ("/usr/lib/python3.11/multiprocessing/connection.py", 947, "wait"),
    ("/usr/lib/python3.11/multiprocessing/queues.py", 113, "get"),
    (f"{TORCH}/utils/data/dataloader.py", 1275, "_try_get_data"),
    (f"{TORCH}/utils/data/dataloader.py", 1445, "_get_data"),
    (f"{TORCH}/utils/data/dataloader.py", 1482, "_next_data"),
    (f"{TORCH}/utils/data/dataloader.py", 741, "__next__"),
    ("train.py", 97, "epoch"),
)
SAVE = stack((f"{TORCH}/serialization.py", 964, "save"), ("train.py", 201, "checkpoint"))
EVALUATE = stack(("evaluation.py", 33, "score"), ("train.py", 220, "evaluate"))


def collective(sequence: int, operation: str = "all_reduce", *, group: str = "0", **other: Any) -> Collective:
    sizes: dict[str, Any] = {
        "input_sizes": ((1024, 512),),
        "output_sizes": ((1024, 512),),
        "dtypes": ("BFloat16",),
    }
    return Collective(
        group=group,
        sequence=sequence,
        operation=f"nccl:{operation}",
        **{**sizes, "created": 1000.0 + sequence, **other},
    )


def world(ranks: Iterable[int], *, name: str = "0", title: str = "default_pg") -> Group:
    return Group(name=name, description=title, ranks=tuple(ranks))


def inside(rank: int, *, size: int = 16, sequence: int = 812, **other: Any) -> RankEvidence:
    """A rank whose GPU is inside one collective of all, whose processor spins."""
    done = [collective(number, done=True) for number in range(sequence - 4, sequence)]
    return RankEvidence(
        rank=rank,
        processes=(
            ProcessLook(pid=4000 + rank, parent=300, command="python -u train.py", state="R", cpu=900.0),
        ),
        threads=SYNCHRONIZE,
        source="worker server",
        recorder=Recorder(groups=(world(range(size)),), collectives=(*done, collective(sequence, **other))),
        sent=0,
        received=0,
    )


def outside(rank: int, threads: tuple[ThreadStack, ...], **other: Any) -> RankEvidence:
    """A rank that is through with all it has entered, and is somewhere else."""
    return process(replace(inside(rank, sequence=811, done=True, **other), threads=threads), state="S")


def process(evidence: RankEvidence, **changes: Any) -> RankEvidence:
    own, *rest = evidence.processes
    return replace(evidence, processes=(replace(own, **changes), *rest))


def child(evidence: RankEvidence, pid: int, **changes: Any) -> RankEvidence:
    own = evidence.processes[0]
    look = ProcessLook(pid=pid, parent=own.pid, command="python -u train.py", state="S")
    return replace(evidence, processes=(*evidence.processes, replace(look, **changes)))


def hosts(
    ranks: Mapping[int, RankEvidence], *, look: int, each: int = 8, swapped: int | None = 0
) -> dict[int, HostEvidence]:
    """Two looks are half a minute apart."""
    return {
        node: HostEvidence(
            look=look,
            time=10_000.0 + 30.0 * look,
            ranks=tuple(evidence for rank, evidence in sorted(ranks.items()) if rank // each == node),
            swapped=swapped,
        )
        for node in sorted({rank // each for rank in ranks})
    }


def spinning(evidence: RankEvidence) -> RankEvidence:
    """The same rank half a minute later: its processor has been at 100 % all the time."""
    return process(evidence, cpu=evidence.processes[0].cpu + 30.0)
