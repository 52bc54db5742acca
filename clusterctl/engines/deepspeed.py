"""DeepSpeed's own launcher: over pdsh from the controller, or on each node by itself with ``--no_ssh``.

Its command line only ever carries the rank waiter and the run id, so nothing of the user's is quoted by it.
"""

from __future__ import annotations

from clusterctl.engines.torchrun import WAITER
from clusterctl.plan.model import LaunchPlan, NodePlan

WAITER_WORD = "clusterctl-rank-waiter"


def hostfile(plan: LaunchPlan) -> str:
    """The selected hosts in DeepSpeed's grammar, with slots enough for the highest one selected."""
    return "".join(f"{node.host} slots={max(node.slots) + 1}\n" for node in plan.nodes)


def _selection(plan: LaunchPlan) -> tuple[str, ...]:
    """``--include`` where some host does not use its leading slots, else nothing."""
    if all(node.slots == tuple(range(len(node.slots))) for node in plan.nodes):
        return ()
    parts = (f"{node.host}:{','.join(map(str, node.slots))}" for node in plan.nodes)
    return (f"--include={'@'.join(parts)}",)


def no_ssh_argv(plan: LaunchPlan, node: NodePlan) -> tuple[str, ...]:
    """What the agent of ``node`` executes; ``{run_dir}/hostfile`` must hold `hostfile(plan)`."""
    return (
        node.python,
        "-m",
        "deepspeed.launcher.runner",
        "--hostfile={run_dir}/hostfile",
        *_selection(plan),
        "--no_ssh",
        f"--node_rank={node.node_rank}",
        f"--master_addr={plan.master_addr}",
        f"--master_port={plan.master_port}",
        "--no_local_rank",
        WAITER,
        plan.run,
    )


def pdsh_argv(plan: LaunchPlan, hostfile_path: str) -> tuple[str, ...]:
    """Arguments of DeepSpeed's runner on the controller.

    The waiter lies elsewhere on each node, so a word stands for it, which the agent replaces.
    """
    return (
        f"--hostfile={hostfile_path}",
        *_selection(plan),
        "--launcher=pdsh",
        "--force_multi",
        "--no_ssh_check",
        f"--master_addr={plan.master_addr}",
        f"--master_port={plan.master_port}",
        "--no_local_rank",
        WAITER_WORD,
        plan.run,
    )
