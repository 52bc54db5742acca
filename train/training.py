"""The training run: everything put together, and the loop."""

from __future__ import annotations

import math
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import deepspeed
import numpy as np
import torch
import torch.distributed as dist
from torch.optim.lr_scheduler import LambdaLR

import checkpoint
import dsconfig
import flops
import precision
import ranks
import tokenizing
from errors import UserError
from model import GPT, GPTShape
from progress import Progress, say
from ranks import Place
from sampling import HeldoutBatches, TrainingSamples
from stopping import StopRequest, end_at_once_on_ctrl_c

FINAL_LR_SHARE = 0.1


def run(args: Namespace) -> int:
    """Train as asked; the exit code. Raises UserError on all ranks alike."""
    raw_config = dsconfig.read(args.ds_config)
    stop = StopRequest()
    if args.save_dir:
        stop.listen()
    else:
        end_at_once_on_ctrl_c()
    place = ranks.join(args.local_rank)
    try:
        code = _train(args, raw_config, place, stop)
    except UserError:
        ranks.leave()
        raise
    except Exception as error:
        # Said first and in one line: tracebacks of several ranks get mixed up.
        say(f"rank {place.rank} on {place.host} failed: {type(error).__name__}: {error}")
        raise
    ranks.leave()
    return code


def _train(args: Namespace, raw_config: dict[str, Any], place: Place, stop: StopRequest) -> int:
    config = dsconfig.complete(raw_config, args, on_cpu=place.on_cpu, world_size=place.world_size)
    dtype, why = precision.choose(dsconfig.requested_dtype(raw_config, args.dtype), place)
    dsconfig.set_dtype(config, dtype)
    save_dir = Path(args.save_dir).absolute() if args.save_dir else None
    node_local = bool(save_dir) and checkpoint.each_host_has_its_own(save_dir, place)
    if node_local:
        config.setdefault("checkpoint", {})["use_node_local_storage"] = True
    dsconfig.validate(config)
    cache = Path(args.cache_dir) if args.cache_dir else tokenizing.default_cache()
    tokens = tokenizing.prepare(args.data, args.tokenizer, cache, place)
    samples = TrainingSamples(tokens.training, args.seq_len, args.seed)

    began = time.monotonic()
    torch.manual_seed(args.seed)
    model = GPT(GPTShape(tokens.vocab_size, args.n_layer, args.d_model, args.n_head, args.dropout))
    parameters = model.parameter_count()
    engine = _initialise(model, config, args)
    micro, accumulate = engine.train_micro_batch_size_per_gpu(), engine.gradient_accumulation_steps()
    global_batch = micro * accumulate * place.world_size
    progress = Progress(
        place,
        steps=args.steps,
        tokens_per_step=global_batch * args.seq_len,
        flops_per_token=flops.per_token(parameters, args.n_layer, args.d_model, args.seq_len),
        dtype=dtype,
        metrics=Path(args.metrics) if args.metrics else None,
    )
    progress.hello()
    hosts = len(set(ranks.gather(place.host)))
    stage = engine.zero_optimization_stage()
    progress.header(
        {
            "model": f"{parameters / 1e6:.1f} M parameters: {args.n_layer} layers x {args.d_model}, {args.n_head} heads",
            "data": f"{tokens.name}: {len(tokens.training):,} training and {len(tokens.heldout):,} held-out tokens",
            "batch": f"{micro} x {accumulate} accumulated x {place.world_size} ranks"
            f" = {global_batch * args.seq_len:,} tokens per step",
            "engine": f"DeepSpeed {deepspeed.__version__}, ZeRO stage {stage}, {dtype} ({why})",
            "ranks": f"{place.world_size} on {hosts} host{'s' * (hosts != 1)}, {place.device.type} over {place.backend}",
            "ready": f"engine initialised in {time.monotonic() - began:.1f} s",
        }
    )
    facts = {
        "world_size": place.world_size,
        "zero_stage": stage,
        "dtype": dtype,
        "vocab_size": tokens.vocab_size,
        "data": tokens.key,
        "global_batch": global_batch,
        **{
            name: getattr(args, name)
            for name in ("n_layer", "d_model", "n_head", "seq_len", "seed", "dropout")
        },
        **{name: getattr(args, name) for name in ("lr", "lr_decay_steps", "warmup")},
    }
    store = None
    if save_dir:
        store = checkpoint.Checkpoints(save_dir, place, node_local=node_local, keep=args.keep, facts=facts)
    step, consumed = _resume(args.resume, save_dir, facts, engine, place, progress)
    evaluate = _evaluator(engine, tokens, args, place, progress)
    ended = _loop(args, engine, samples, place, progress, store, evaluate, stop, step, consumed)
    return 128 + ended if ended else 0


def _initialise(model: GPT, config: dict[str, Any], args: Namespace) -> Any:
    matrices = [parameter for parameter in model.parameters() if parameter.dim() >= 2]
    vectors = [parameter for parameter in model.parameters() if parameter.dim() < 2]
    schedule = None
    if "scheduler" not in config:

        def schedule(optimizer: torch.optim.Optimizer) -> LambdaLR:
            return LambdaLR(optimizer, lambda step: lr_share(step, args.warmup, args.lr_decay_steps))

    engine, *_ = deepspeed.initialize(
        model=model,
        model_parameters=[{"params": matrices}, {"params": vectors, "weight_decay": 0.0}],
        config=config,
        lr_scheduler=schedule,
        dist_init_required=False,
    )
    return engine


def lr_share(step: int, warmup: int, decay_steps: int) -> float:
    """Share of the peak learning rate in the step after `step` steps: linear warm-up, then cosine to a tenth."""
    if step < warmup:
        return (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, decay_steps - warmup))
    return FINAL_LR_SHARE + (1 - FINAL_LR_SHARE) * 0.5 * (1 + math.cos(math.pi * done))


def _resume(
    what: str | None,
    save_dir: Path | None,
    facts: dict[str, Any],
    engine: Any,
    place: Place,
    progress: Progress,
) -> tuple[int, int]:
    if not what:
        return 0, 0
    found = checkpoint.find(what, save_dir, facts)
    if found is None:
        progress.note("no checkpoint yet: starting from step 0")
        return 0, 0
    path, differences = found
    step, consumed = checkpoint.load(engine, path, place)
    progress.note(f"resumed {path} at step {step}")
    if differences:
        progress.note(f"not an exact continuation: {', '.join(differences)}")
    return step, consumed


def _loop(
    args: Namespace,
    engine: Any,
    samples: TrainingSamples,
    place: Place,
    progress: Progress,
    store: checkpoint.Checkpoints | None,
    evaluate: Callable[[int], None],
    stop: StopRequest,
    step: int,
    consumed: int,
) -> int:
    """Train from `step` to the last; the number of the signal that ended it early, or 0."""
    micro, accumulate = engine.train_micro_batch_size_per_gpu(), engine.gradient_accumulation_steps()
    first, saved = step, step
    ended = 0
    engine.train()
    while step < args.steps:
        began = time.monotonic()
        seed_step(args.seed, step, place.rank)
        lr = engine.get_lr()[0]
        loss_sum = torch.zeros((), device=place.device)
        for _ in range(accumulate):
            inputs, targets = samples.batch(consumed, place.rank, micro)
            loss = engine(inputs.to(place.device), targets.to(place.device))
            engine.backward(loss)
            engine.step()
            loss_sum += loss.detach().float()
            consumed += micro * place.world_size
        step += 1
        mean_loss, ended = _agree(loss_sum / accumulate, stop.signal, place)
        norm = engine.get_global_grad_norm()
        last = step == args.steps or bool(ended)
        progress.step(
            step,
            loss=mean_loss,
            lr=lr,
            grad_norm=None if norm is None else float(norm),
            seconds=time.monotonic() - began,
            show=step == first + 1 or step % args.log_every == 0 or last,
        )
        if ended:
            break
        if args.eval_every and step % args.eval_every == 0 and not last:
            evaluate(step)
        if store and args.save_every and step % args.save_every == 0:
            progress.note(f"saved {store.save(engine, step, consumed)}")
            saved = step
    if store and saved != step:
        progress.note(f"saved {store.save(engine, step, consumed)}")
    if not ended:
        evaluate(step)
    progress.goodbye(step - first, f"stopped by signal {ended}" if ended else "done")
    return ended


def _agree(loss: torch.Tensor, signal_number: int, place: Place) -> tuple[float, int]:
    """The loss averaged over all ranks, and the highest signal number that any of them got. Collective."""
    losses = torch.stack((loss, torch.zeros_like(loss)))
    everyone = torch.zeros(2, place.world_size, device=place.device)
    everyone[:, place.rank] = losses + torch.tensor([0.0, float(signal_number)], device=place.device)
    dist.all_reduce(everyone)
    return float(everyone[0].mean()), int(everyone[1].max())


def seed_step(seed: int, step: int, rank: int) -> None:
    """Dropout masks depend on nothing but these three, so a resumed run draws the same ones."""
    torch.manual_seed(int(np.random.SeedSequence((seed, step, rank)).generate_state(1)[0]))


def _evaluator(
    engine: Any, tokens: tokenizing.Tokens, args: Namespace, place: Place, progress: Progress
) -> Callable[[int], None]:
    heldout = HeldoutBatches(tokens.heldout, args.seq_len)
    micro = engine.train_micro_batch_size_per_gpu()
    batches = heldout.count(args.eval_batches, micro, place.world_size)
    if args.eval_batches and not batches:
        progress.note("too little held-out text for an evaluation with this batch")

    def evaluate(step: int) -> None:
        if not batches:
            return
        engine.eval()
        total = torch.zeros((), device=place.device)
        with torch.no_grad():
            for index in range(batches):
                inputs, targets = heldout.batch(index, place.rank, micro, place.world_size)
                total += engine(inputs.to(place.device), targets.to(place.device)).float()
        engine.train()
        dist.all_reduce(total)
        loss = float(total) / (batches * place.world_size)
        progress.evaluation(step, loss, math.exp(loss), batches * micro * place.world_size * args.seq_len)

    return evaluate
