"""torchrun with static ranks: every node is told its rank, none has to be found."""

from __future__ import annotations

from clusterctl.plan.model import LaunchPlan, NodePlan

WAITER = "{run_dir}/code/rank.py"
# Without a place named, torchrun leaves a folder in /tmp behind, run after run.
LOG_DIR = "{run_dir}/torchelastic"


def argv(plan: LaunchPlan, node: NodePlan) -> tuple[str, ...]:
    """What the agent of ``node`` executes; ``{run_dir}`` stands for its run directory."""
    return (
        node.python,
        "-m",
        "torch.distributed.run",
        f"--nnodes={len(plan.nodes)}",
        f"--nproc-per-node={len(node.ranks)}",
        f"--node-rank={node.node_rank}",
        f"--master-addr={plan.master_addr}",
        f"--master-port={plan.master_port}",
        "--max-restarts=0",
        f"--log-dir={LOG_DIR}",
        WAITER,
        plan.run,
    )
