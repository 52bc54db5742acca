"""From the command to the first training step: `clusterctl launch` beside torchrun by hand on both hosts.

    python bench/first_step.py [--rounds 3]

By hand means: the code lies on both hosts, the variables are known, and one ssh per host starts torchrun.
What launch does more in that time: ask and judge the hosts, prove the network, copy the code.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from clusterctl.sandbox import Sandbox
from clusterctl.sandbox.spec import numbered

TRAIN = Path(__file__).parents[1] / "train"
ARGUMENTS = ["--steps", "3", "--log_every", "1"]


def until_first_step(processes: list[subprocess.Popen[str]], began: float) -> float:
    """Seconds until the first of ``processes`` prints its first step; waits for all to end well."""
    first = None
    stream = processes[0].stdout
    assert stream is not None
    text = []
    for line in stream:
        text.append(line)
        if first is None and "step " in line and "loss" in line:
            first = time.monotonic() - began
    if any(process.wait() for process in processes) or first is None:
        raise SystemExit("the training failed:\n" + "".join(text[-20:]))
    return first


def by_hand(sandbox: Sandbox, port: int) -> float:
    began = time.monotonic()
    processes = []
    for node_rank, host in enumerate(sandbox.hosts):
        argv = [
            sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1",
            f"--node-rank={node_rank}", f"--master-addr={sandbox.hosts[0].address()}",
            f"--master-port={port}",
            "pretrain.py", *ARGUMENTS,
        ]  # fmt: skip
        command = (
            f"cd {shlex.quote(str(TRAIN))} && GLOO_SOCKET_IFNAME=eth0 PYTHONUNBUFFERED=1 {shlex.join(argv)}"
        )
        processes.append(
            subprocess.Popen(
                ["ssh", "-F", str(sandbox.ssh_config), host.name, command],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT if node_rank == 0 else subprocess.DEVNULL,
                text=True,
            )
        )
    return until_first_step(processes, began)


def launched(sandbox: Sandbox) -> float:
    began = time.monotonic()
    argv = [sys.executable, "-m", "clusterctl", "launch", "-H", str(sandbox.hostfile), "--", *ARGUMENTS]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return until_first_step([process], began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="bench-"))
    os.environ["CLUSTERCTL_HOME"] = str(home)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package has its bytecode
    try:
        with Sandbox.create("bench", numbered(2, (1,))) as sandbox:
            # The first runs tokenise and write bytecode; neither way shall pay for that.
            by_hand(sandbox, 29700)
            launched(sandbox)
            pairs = [(by_hand(sandbox, 29701 + i), launched(sandbox)) for i in range(args.rounds)]
    finally:
        shutil.rmtree(home)
    hand, launch = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(f"first training step, 2 hosts, {os.cpu_count()} cores, median of {args.rounds} rounds")
    print(f"  torchrun by hand   {hand:6.2f} s")
    print(f"  clusterctl launch  {launch:6.2f} s   {launch / hand:.2f} x")
    print("  pairs: " + ", ".join(f"{one:.2f}/{two:.2f}" for one, two in pairs))


if __name__ == "__main__":
    main()
