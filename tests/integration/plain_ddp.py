"""A plain data-parallel loop, written apart from train/'s, for its losses to be compared with.

Of train/ it takes the model and the order of the samples, and nothing of what trains.
`torchrun plain_ddp.py TOKENS STEPS PASSES` prints the loss of each step.
"""

from __future__ import annotations

import json
import math
import os
import sys
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "train"))

from model import GPT, GPTShape
from sampling import TrainingSamples

SEED, SEQ_LEN, MICRO_BATCH, WARMUP, PEAK = 1234, 64, 2, 2, 1e-3
SHAPE = GPTShape(vocab_size=8192, seq_len=SEQ_LEN, n_layer=2, d_model=64, n_head=2)


def rate(done: int, steps: int) -> float:
    """The rate of the step after `done` steps."""
    if done < WARMUP:
        return PEAK * (done + 1) / WARMUP
    share = (done - WARMUP) / (steps - WARMUP)
    return PEAK * (0.1 + 0.45 * (1 + math.cos(math.pi * share)))


def main(tokens: Path, steps: int, passes: int) -> list[float]:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(SEED)
    model = GPT(SHAPE)
    samples = TrainingSamples(np.memmap(tokens, dtype=np.uint16, mode="r"), SEQ_LEN, SEED)
    decayed = [value for value in model.parameters() if value.dim() > 1]
    others = [value for value in model.parameters() if value.dim() == 1]
    adam = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}],
        betas=(0.9, 0.95),
        eps=1e-8,
        foreach=False,
    )
    losses, consumed = [], 0
    for step in range(steps):
        total = torch.zeros((), dtype=torch.float64)
        for _ in range(passes):
            inputs, targets = samples.batch(consumed, rank, MICRO_BATCH)
            consumed += MICRO_BATCH * world
            loss = model(inputs, targets) / passes
            loss.backward()
            total += loss.detach().double()
        squares = torch.zeros((), dtype=torch.float64)
        gradients = [value.grad for value in model.parameters() if value.grad is not None]
        for gradient in gradients:
            dist.all_reduce(gradient)
            gradient /= world
            squares += gradient.double().square().sum()
        factor = min(1.0, 1.0 / (math.sqrt(float(squares)) + 1e-6))
        for gradient in gradients:
            gradient *= factor
        for group in adam.param_groups:
            group["lr"] = rate(step, steps)
        adam.step()
        adam.zero_grad()
        dist.all_reduce(total)
        losses.append(float(total) / world)
    dist.barrier()
    return losses


if __name__ == "__main__":
    curve = main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
    if os.environ["RANK"] == "0":
        print(json.dumps(curve), flush=True)
    # Without the interpreter's teardown, where a thread of gloo sometimes aborts a finished rank.
    os._exit(0)
