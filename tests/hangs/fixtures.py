"""Recorded evidence, and the plan it belongs to."""

from __future__ import annotations

from pathlib import Path

import msgspec

from clusterctl.advise.hang import judge
from clusterctl.advise.hang_verdict import HangVerdict
from clusterctl.messages.evidence import HostEvidence
from clusterctl.plan.model import Code, LaunchPlan, NodePlan

HERE = "/home/me/project"
CASES = (
    "asleep",
    "other_collective",
    "other_shape",
    "other_dtype",
    "other_order",
    "stopped",
    "nested",
    "early_exit",
    "evaluates",
    "saves",
    "backward",
    "zero2",
    "compiles",
    "left_lock",
    "receives",
    "all_receive",
    "worker_asleep",
    "worker_stopped",
    "worker_dead",
    "two_locks",
    "not_there",
    "all_early",
    "other_members",
)
DIRECTORY = Path(__file__).parents[1] / "fixtures" / "hangs"


class Fixture(msgspec.Struct, frozen=True, kw_only=True):
    """Two looks at all hosts, by node rank, and the exit codes of ranks that had ended."""

    first: dict[int, HostEvidence]
    second: dict[int, HostEvidence]
    exits: dict[int, int] = {}


def path_of(case: str) -> Path:
    return DIRECTORY / f"{case}.json"


def recorded(case: str) -> Fixture:
    return msgspec.json.decode(path_of(case).read_bytes(), type=Fixture)


def plan(*slots: int) -> LaunchPlan:
    """Hosts node1, node2, ... with so many ranks each."""
    nodes = []
    for number, count in enumerate(slots):
        first = sum(slots[:number])
        nodes.append(
            NodePlan(
                host=f"node{number + 1}",
                node_rank=number,
                slots=tuple(range(count)),
                declared_slots=count,
                ranks=tuple(range(first, first + count)),
                address=f"10.0.0.{number + 1}",
                ifname="eth0",
                python="/opt/env/bin/python",
                settings=(),
            )
        )
    return LaunchPlan(
        run="r1",
        start="torchrun",
        command=("train.py",),
        arguments=(),
        pass_local_rank=False,
        world_size=sum(slots),
        master_addr="10.0.0.1",
        master_port=29500,
        nodes=tuple(nodes),
        code=Code(root=HERE),
        hostfile="node1\n",
    )


def verdict(case: str) -> HangVerdict:
    fixture = recorded(case)
    return judge(fixture.first, fixture.second, plan(2, 2), fixture.exits)
