"""The loop of `train/pretrain.py` beside minimal loops of the same model, in turns in the same processes.

    python bench/train.py [--ranks 2] [--rounds 12] [--steps 20] [--against ddp zero2]

ddp     beside a plain loop of the kind that small GPT trainers have: random crops of a token file, DDP,
        the clipping of torch, one log line in ten steps; with AdamW as they have it on CPUs (nanoGPT fuses
        it on CUDA only), and with the fused one, which pretrain.py takes everywhere
zero2   beside DeepSpeed's own three lines: forward, backward, step

All have the same weights, batch, threads, settings and process group. They take turns, a block of steps
each, in another order each time; what a block costs is the CPU time of all threads of all
ranks, for on a shared machine nothing else can be compared. Ratios are medians over the rounds, with their
quartiles.
"""

from __future__ import annotations

import argparse
import copy
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SIZES = ("n_layer", "d_model", "n_head", "seq_len", "micro_batch", "gas")
Block = Callable[[int], None]
OURS = "pretrain.py"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--steps", type=int, default=20, help="of one block")
    parser.add_argument("--against", nargs="+", choices=("ddp", "zero2"), default=["ddp", "zero2"])
    for name, size in zip(SIZES, (4, 128, 4, 64, 12, 1), strict=True):
        parser.add_argument(f"--{name}", type=int, default=size)
    args = parser.parse_args()
    if "RANK" in os.environ:
        return rank(args)
    print(
        f"{args.rounds} rounds of {args.steps} steps, {args.ranks} ranks with one thread each, medians",
        flush=True,
    )
    for strategy in args.against:
        words = [word for word in sys.argv[1:] if word not in ("--against", "ddp", "zero2")]
        subprocess.run(
            [
                *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
                *(f"--nproc-per-node={args.ranks}", __file__, *words, "--against", strategy),
            ],
            env={**os.environ, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "PYTHONWARNINGS": "ignore"},
            check=True,
        )
    return 0


def rank(args: argparse.Namespace) -> int:
    """One rank of one comparison."""
    sys.path.insert(0, str(ROOT / "train"))
    import torch.distributed as dist

    import arguments
    import dsconfig
    import ranks
    import training
    from quiet import quieten
    from stopping import StopRequest

    quieten()
    [strategy] = args.against
    steps = args.steps * (args.rounds + 1)
    words = ["--strategy", strategy, "--dtype", "fp32", "--eval_batches", "0"]
    words += ["--steps", str(steps + 1), "--log_every", "10", "--micro_batch", str(args.micro_batch)]
    for name in SIZES:
        words += [f"--{name}", str(getattr(args, name))] if name != "micro_batch" else []
    asked = arguments.parse(words)
    place = ranks.join(None)
    config = dsconfig.read(asked.ds_config) if asked.ds_config else {}
    # Both sides print as they train, to nowhere.
    shown, sys.stdout = sys.stdout, Path(os.devnull).open("w")  # noqa: SIM115
    run = training._prepare(asked, config, place, StopRequest())
    model = copy.deepcopy(run.engine.module)
    others: dict[str, Block] = {}
    if strategy == "ddp":
        for fused in (False, True):
            name = "a plain loop" + ", fused" * fused
            others[name] = plain(copy.deepcopy(model), run, place, fused=fused)
    else:
        others["a bare DeepSpeed loop"] = bare(model, run, place)

    def ours(count: int) -> None:
        for _ in range(count):
            run._step(show_first=False)

    sides = {OURS: ours, **others}
    costs: dict[str, list[float]] = {name: [] for name in sides}
    walls: dict[str, list[float]] = {name: [] for name in sides}
    for block in sides.values():
        block(args.steps)
    for number in range(args.rounds):
        for name in sorted(sides, reverse=bool(number % 2)):  # the order is turned round
            cpu, wall = cost(sides[name], args.steps)
            costs[name].append(cpu)
            walls[name].append(wall)
    dist.barrier()
    sys.stdout = shown
    if place.is_first:
        tokens = args.steps * args.micro_batch * args.gas * place.world_size * args.seq_len
        report(strategy, model, tokens, costs, walls)
    dist.barrier()
    ranks.leave()
    sys.stdout.flush()
    os._exit(0)  # as pretrain.py does: gloo's threads may abort a process that tears down


def cost(block: Block, steps: int) -> tuple[float, float]:
    """Seconds of CPU of all ranks together for a block, and seconds."""
    import torch
    import torch.distributed as dist

    dist.barrier()
    cpu, wall = time.process_time(), time.monotonic()
    block(steps)
    used = torch.tensor([time.process_time() - cpu])
    wall = time.monotonic() - wall
    dist.all_reduce(used)
    return float(used), wall


def plain(model: Any, run: Any, place: Any, *, fused: bool) -> Block:
    """A training loop with what one needs, and nothing else."""
    import numpy as np
    import torch
    from torch.nn.parallel import DistributedDataParallel

    import optimization

    tokens, length = run.samples.tokens, run.samples.seq_len
    size, passes = run.engine.micro_batch, run.engine.passes
    draw = np.random.default_rng(place.rank)
    parallel = DistributedDataParallel(model)
    ours = run.engine.optimizer.param_groups[0]
    same = {"lr": ours["initial_lr"], **{name: ours[name] for name in ("betas", "eps", "weight_decay")}}
    optimizer = torch.optim.AdamW(optimization.parameter_groups(model), fused=fused, **same)
    peak = [group["lr"] for group in optimizer.param_groups]
    done = 0

    def batch() -> tuple[torch.Tensor, torch.Tensor]:
        starts = draw.integers(len(tokens) - length - 1, size=size)
        crops = [torch.from_numpy(tokens[at : at + length + 1].astype(np.int64)) for at in starts]
        both = torch.stack(crops)
        return both[:, :-1], both[:, 1:]

    def block(steps: int) -> None:
        nonlocal done
        for _ in range(steps):
            for group, lr in zip(optimizer.param_groups, peak, strict=True):
                group["lr"] = lr * optimization.lr_share(done, run.args.warmup, run.args.lr_decay_steps)
            for at in range(passes):
                parallel.require_backward_grad_sync = at == passes - 1
                inputs, targets = batch()
                loss = parallel(inputs, targets) / passes
                loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), run.engine.clip)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            done += 1
            if done % 10 == 0:
                print(f"step {done} loss {loss.item() * passes:.4f}")

    return block


def bare(model: Any, run: Any, place: Any) -> Block:
    """DeepSpeed's own loop, with the same config, data and schedule."""
    import deepspeed

    import optimization

    engine, *_ = deepspeed.initialize(
        model=model,
        model_parameters=optimization.parameter_groups(model),
        config=copy.deepcopy(run.engine.engine.config),
        lr_scheduler=lambda made: optimization.schedule(made, run.args.warmup, run.args.lr_decay_steps),
        dist_init_required=False,
    )
    size, consumed = run.engine.micro_batch, 0

    def block(steps: int) -> None:
        nonlocal consumed
        for _ in range(steps * run.engine.passes):
            inputs, targets = run.samples.batch(consumed, place.rank, size)
            consumed += size * place.world_size
            loss = engine(inputs, targets)
            engine.backward(loss)
            engine.step()
            if consumed // (size * place.world_size) % (10 * run.engine.passes) == 0:
                print(f"loss {loss.item():.4f}")

    return block


def report(
    strategy: str,
    model: Any,
    tokens: int,
    costs: dict[str, list[float]],
    walls: dict[str, list[float]],
) -> None:
    parameters = sum(each.numel() for each in model.parameters())
    print(f"{strategy}, {parameters / 1e6:.2f} M parameters, tokens per second of CPU")
    for name in costs:
        rate, fast = (tokens / statistics.median(of[name]) for of in (costs, walls))
        said = f"  {name:<24}{rate:>9,.0f}  ({fast:,.0f} tokens/s)"
        if name != OURS:
            ratios = [other / own for own, other in zip(costs[OURS], costs[name], strict=True)]
            low, middle, high = statistics.quantiles(ratios, n=4)
            said += f"  {OURS} is {middle:.3f} times as fast ({low:.3f} to {high:.3f})"
        print(said, flush=True)


if __name__ == "__main__":
    sys.exit(main())
