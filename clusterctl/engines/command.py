"""LaunchPlan -> what each node executes. Builds argv only."""

from __future__ import annotations

from clusterctl.engines import deepspeed, torchrun
from clusterctl.plan.model import LaunchPlan, NodePlan


def node_argv(plan: LaunchPlan, node: NodePlan) -> tuple[str, ...] | None:
    """What the agent of ``node`` executes; None where DeepSpeed's launcher brings it over pdsh."""
    if plan.start == "torchrun":
        return torchrun.argv(plan, node)
    if plan.start == "deepspeed-no-ssh":
        return deepspeed.no_ssh_argv(plan, node)
    return None


def node_files(plan: LaunchPlan) -> dict[str, str]:
    """Files the engine wants to find in the run directory of a node: name -> text."""
    return {"hostfile": deepspeed.hostfile(plan)} if plan.start == "deepspeed-no-ssh" else {}
