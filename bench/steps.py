"""The job that `bench/launch.py` starts in every way there is: DDP steps of a small model, over gloo on CPUs.

Prints `step N/M` on rank 0, and at the end how many steps a second it took and what CPU time its ranks used.
"""

from __future__ import annotations

import argparse
import os
import time

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--warm-up", type=int, default=5)
    # What DeepSpeed's launcher adds.
    parser.add_argument("--local_rank", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    model = DistributedDataParallel(torch.nn.Sequential(torch.nn.Linear(256, 512), torch.nn.Linear(512, 256)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    batch = torch.randn(32, 256)
    began, cpu = time.monotonic(), os.times()
    for step in range(1, args.steps + 1):
        if step == args.warm_up + 1:
            began, cpu = time.monotonic(), os.times()
        loss = model(batch).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if rank == 0:
            print(f"step {step}/{args.steps} loss {loss.item():.4f}", flush=True)
    seconds, now = time.monotonic() - began, os.times()
    used = torch.tensor([now.user + now.system - cpu.user - cpu.system])
    dist.all_reduce(used)
    if rank == 0:
        print(
            f"speed {(args.steps - args.warm_up) / seconds:.2f} steps/s, {used.item():.2f} s of CPU",
            flush=True,
        )
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
