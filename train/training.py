"""The training run: everything put together."""

from __future__ import annotations

import os
import shutil
import socket
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch

import checkpoint
import completion
import ddp
import dsconfig
import export
import flops
import memory
import optimization
import precision
import ranks
import restoring
import tokenizing
from engine import Engine
from errors import Diverged, UserError
from evaluation import Evaluation
from loop import Run
from model import GPT, GPTShape, parameter_count
from progress import Progress, open_journal, say
from ranks import Place
from restoring import Found
from sampling import HeldoutBatches, TrainingSamples
from stopping import StopRequest, end_at_once_on_ctrl_c

SHAPE_ARGUMENTS = ("seq_len", "n_layer", "d_model", "n_head", "dropout")


def run(args: Namespace) -> int:
    """Train as asked; the exit code. Raises UserError on all ranks alike."""
    try:
        config = dsconfig.read(args.ds_config) if args.ds_config else {}
    except UserError as error:
        # The others may have the file, and would wait for this rank: it has to say why it left.
        raise UserError(
            f"{socket.gethostname()}: {error.message}", hint=error.hint, rank_local=True
        ) from error
    # Until the first step there is nothing to save, and another rank may never come.
    end_at_once_on_ctrl_c()
    place = ranks.join(args.local_rank)
    memory.watch()
    stop = StopRequest()
    try:
        run = _prepare(args, config, place, stop)
        if args.save_dir:
            stop.listen()
        ended = run.train()
        if not ended:
            _finish(run, args)
    except (UserError, Diverged) as error:
        # Others that know nothing of it are in the midst of something, and never come to a barrier.
        if not (isinstance(error, UserError) and error.rank_local):
            ranks.leave()
        raise
    except Exception as error:
        # Said first and in one line: the tracebacks of several ranks get mixed up.
        say(f"rank {place.rank} on {place.host} failed: {type(error).__name__}: {error}")
        raise
    ranks.leave()
    return 128 + ended if ended else 0


def _prepare(args: Namespace, raw_config: dict[str, Any], place: Place, stop: StopRequest) -> Run:
    """Settle every open choice with the other ranks, and build what the loop needs. Collective."""
    config = dsconfig.complete(raw_config, args, world_size=place.world_size)
    save_dir = Path(args.save_dir).absolute() if args.save_dir else None
    node_local = save_dir is not None and checkpoint.each_host_has_its_own(save_dir, place)
    found, notes = _find(args, place)
    wanted = dsconfig.requested_dtype(raw_config, args.dtype)
    if found and wanted == "auto":
        dtype, why = found.record.get("dtype", "fp32"), "as in the checkpoint"
    else:
        dtype, why = precision.choose(wanted, place)
    dsconfig.set_dtype(config, dtype)
    dsconfig.set_sizes(config, on_cpu=place.on_cpu)
    if node_local:
        config.setdefault("checkpoint", {})["use_node_local_storage"] = True
    if args.ds_config:
        dsconfig.validate(config)
    cache = Path(args.cache_dir) if args.cache_dir else tokenizing.default_cache()
    tokens = tokenizing.prepare(args.data, args.tokenizer, cache, place)
    samples = TrainingSamples(tokens.training, args.seq_len, args.seed)

    began = time.monotonic()
    shape = GPTShape(
        vocab_size=-(-tokens.vocab_size // args.vocab_multiple) * args.vocab_multiple,
        **{name: getattr(args, name) for name in SHAPE_ARGUMENTS},
    )
    engine = _engine(shape, config, dtype, args, place)
    if args.compile:
        _compile(engine.module, place)
    parameters = parameter_count(shape)
    seconds = time.monotonic() - began

    batch = engine.micro_batch * engine.passes * place.world_size
    progress = Progress(
        place,
        steps=args.steps,
        tokens_per_step=batch * args.seq_len,
        flops_per_token=flops.per_token(shape, parameters),
        dtype=dtype,
        journal=open_journal(Path(args.metrics), place) if args.metrics else None,
    )
    progress.hello()
    hosts = len(set(ranks.gather(place.host)))
    progress.header(
        {
            "model": f"{parameters / 1e6:.1f} M parameters:"
            f" {args.n_layer} layers of width {args.d_model}, {args.n_head} heads",
            "data": f"{tokens.name}: {len(tokens.training):,} training tokens,"
            f" {len(tokens.heldout):,} held out",
            "batch": f"{engine.micro_batch} samples x {place.world_size} ranks x {engine.passes} accumulated"
            f" = {batch * args.seq_len:,} tokens per step",
            "engine": f"{engine.title}, {dtype} ({why})",
            "ranks": f"{place.world_size} on {hosts} host{'s' * (hosts != 1)},"
            f" {place.device.type} over {place.backend}",
            "ready": f"engine initialised in {seconds:.1f} s",
        }
    )
    for note in notes:
        progress.note(note)
    identity = {
        "world_size": place.world_size,
        "engine": engine.kind,
        "dtype": dtype,
        "vocab_size": shape.vocab_size,
        "tokenizer": args.tokenizer,
        "data": tokens.key,
        "global_batch": batch,
        **{name: getattr(args, name) for name in checkpoint.IDENTIFYING_ARGUMENTS},
    }
    store = None
    if save_dir:
        store = checkpoint.Checkpoints(save_dir, place, node_local=node_local, keep=args.keep, facts=identity)
    heldout = HeldoutBatches(tokens.heldout, args.seq_len)
    evaluation = Evaluation(engine, heldout, args.eval_batches, place, progress)
    run = Run(args, engine, samples, place, progress, evaluation, store, stop)
    if found:
        _resume(run, found, identity)
    if save_dir:
        restoring.require_none_beyond(save_dir, run.step, place)
    return run


def _engine(shape: GPTShape, config: dict[str, Any], dtype: str, args: Namespace, place: Place) -> Engine:
    """A new model under the strategy that was asked for. Collective."""
    schedule = {"warmup": args.warmup, "decay_steps": args.lr_decay_steps}
    # The same weights on every rank and under every strategy.
    torch.manual_seed(args.seed)
    if not args.ds_config:
        with place.device:
            model = GPT(shape, recompute=args.activation_checkpointing)
        return ddp.build(model, config, dtype=dtype, **schedule, place=place)
    # Imported late: DDP does without DeepSpeed, which takes seconds to load.
    import zero

    zero.require_nvme(config, place)
    zero.prepare(place)
    with place.device, zero.sharded(config):
        model = GPT(shape, recompute=args.activation_checkpointing)
    return zero.build(model, config, **schedule, place=place)


def _compile(model: GPT, place: Place) -> None:
    """torch.compile, from the first step on. Collective; raises UserError where a host lacks a compiler."""
    problem = None
    if not any(shutil.which(name) for name in (os.environ.get("CXX", "c++"), "g++", "clang++")):
        problem = UserError(f"{place.host} has no C++ compiler for --compile", hint="install g++")
    ranks.fail_together(problem)
    model.compile()


def _find(args: Namespace, place: Place) -> tuple[Found | None, list[str]]:
    """The checkpoint to go on from, if any, and what there is to say about it. Collective."""
    if not args.resume:
        return None, []
    if args.resume == "auto":
        where = Path(args.save_dir).absolute()
        found, notes = restoring.newest_intact(where, place)
        if found is None:
            notes.append(f"no checkpoint in {where} yet: starting at step 0")
        return found, notes
    where = Path(args.resume)
    found = restoring.newest(where, place)
    if found is None:
        raise UserError(
            f"{where} holds no whole checkpoint",
            hint="give the --save_dir of an earlier run, or one step-... directory in it",
        )
    if problem := restoring.torn(found, place):
        raise UserError(f"{found.path} cannot be resumed: {problem.reason}", hint=problem.hint)
    return found, []


def _resume(run: Run, found: Found, identity: dict[str, Any]) -> None:
    differences = restoring.compare(found, identity)
    engine, writers = run.engine, found.record["world_size"]
    wanted = optimization.settings(engine.optimizer, engine.scheduler)
    restoring.fetch(found, run.place, everything=writers != run.place.world_size)
    engine.load(found.path, writers=writers)
    run.step, run.consumed = found.record["step"], found.record["samples"]
    differences += optimization.impose(wanted, engine.optimizer, engine.scheduler)
    run.progress.note(f"resumed {found.path} at step {run.step}")
    if differences:
        run.progress.note(f"not an exact continuation: {', '.join(differences)}")


def _finish(run: Run, args: Namespace) -> None:
    """What was asked for after the last step. Collective."""
    if args.sample is not None:
        tokenizer = tokenizing.load_tokenizer(args.tokenizer)
        run.progress.note(f"sample: {completion.complete(run.engine, tokenizer, args, run.place)}")
    if args.export:
        weights = run.engine.weights()
        export.write_together(weights, run.engine.module.shape, args.tokenizer, Path(args.export), run.place)
        run.progress.note(f"exported {args.export}")
