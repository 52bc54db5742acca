"""The training run: everything put together, and the loop."""

from __future__ import annotations

import math
import socket
import time
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
import torch.distributed as dist

import checkpoint
import ddp
import dsconfig
import flops
import optimization
import precision
import ranks
import tokenizing
from engine import Batch, Engine
from errors import Diverged, UserError
from evaluation import Evaluation
from model import GPT, GPTShape
from progress import Progress, Step, open_journal, say
from ranks import Place
from sampling import HeldoutBatches, TrainingSamples
from stopping import StopRequest, end_at_once_on_ctrl_c


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
    stop = StopRequest()
    try:
        run = _prepare(args, config, place, stop)
        if args.save_dir:
            stop.listen()
        ended = run.train()
    except (UserError, Diverged):
        ranks.leave()
        raise
    except Exception as error:
        # Said first and in one line: the tracebacks of several ranks get mixed up.
        say(f"rank {place.rank} on {place.host} failed: {type(error).__name__}: {error}")
        raise
    ranks.leave()
    return 128 + ended if ended else 0


@dataclass
class Run:
    """One training run between its first and its last step."""

    args: Namespace
    engine: Engine
    samples: TrainingSamples
    place: Place
    progress: Progress
    evaluation: Evaluation
    store: checkpoint.Checkpoints | None
    stop: StopRequest
    step: int = 0
    consumed: int = 0
    first: int = 0
    # Seconds that the batches of this step took to come.
    waited: float = 0.0

    def train(self) -> int:
        """Train to the last step; the number of the signal that ended it early, or 0. Collective."""
        args, saved, ended = self.args, self.step, 0
        self.first = self.step
        while self.step < args.steps and not ended:
            ended = self._step(show_first=self.step == self.first)
            finished = ended or self.step == args.steps
            if args.eval_every and self.step % args.eval_every == 0 and not finished:
                self._evaluate()
            if self.store and args.save_every and self.step % args.save_every == 0:
                saved = self._save()
        if self.store and saved != self.step:
            self._save()
        if not ended:
            self._evaluate()
        self.progress.goodbye(self.step - self.first, f"stopped by signal {ended}" if ended else "done")
        return ended

    def _step(self, *, show_first: bool) -> int:
        """One optimizer step; the number of a signal that any rank got, or 0."""
        began = time.monotonic()
        seed_step(self.args.seed, self.step, self.place.rank)
        lr = self.engine.optimizer.param_groups[0]["lr"]
        self.waited = 0.0
        own_loss, norm = self.engine.step(self._batches())
        self.step += 1
        broken = norm is not None and not math.isfinite(norm) and not self.engine.may_overflow
        loss, broken, ended = agree(own_loss, broken, self.stop.signal, self.place)
        due = self.step % self.args.log_every == 0 or self.step == self.args.steps
        done = Step(
            number=self.step,
            loss=loss,
            own_loss=float(own_loss),
            lr=lr,
            grad_norm=norm,
            seconds=time.monotonic() - began,
            data_seconds=self.waited,
            skipped=self.engine.skipped,
        )
        self.progress.step(done, show=show_first or due or broken or bool(ended))
        if broken:
            self._give_up(f"loss is {loss:g}, gradient norm {'n/a' if norm is None else f'{norm:g}'}")
        return ended

    def _evaluate(self) -> None:
        if not math.isfinite(loss := self.evaluation.run(self.step)):
            self._give_up(f"held-out loss is {loss:g}")

    def _batches(self) -> Iterator[Batch]:
        """This rank's batches of the next step."""
        size, device = self.engine.micro_batch, self.place.device
        for _ in range(self.engine.passes):
            began = time.monotonic()
            inputs, targets = self.samples.batch(self.consumed, self.place.rank, size)
            self.consumed += size * self.place.world_size
            self.waited += time.monotonic() - began
            yield inputs.to(device), targets.to(device)

    def _give_up(self, what: str) -> NoReturn:
        """End on all ranks, and leave the checkpoints as they are."""
        last = self.store and checkpoint.newest(self.store.directory)
        self.progress.goodbye(self.step - self.first, "diverged")
        raise Diverged(
            f"{what} at step {self.step}: training cannot go on, and this state is not saved"
            "\nhint: "
            + (f"--resume {last} with" if last else "begin again with")
            + " a lower --lr, a longer --warmup, or other --data"
        )

    def _save(self) -> int:
        assert self.store is not None
        if any(ranks.gather(not all_finite(self.engine.module))):
            self._give_up("weights are nan or inf")
        path = self.store.save(self.engine, self.step, self.consumed)
        self.progress.note(f"saved {path}")
        return self.step


def agree(loss: torch.Tensor, broken: bool, signal_number: int, place: Place) -> tuple[float, bool, int]:
    """The loss averaged over all ranks, whether it or anything on any of them is broken, and the highest
    signal number that any of them got. Collective."""
    everyone = torch.zeros(3, place.world_size, device=place.device)
    everyone[0, place.rank] = loss
    everyone[1, place.rank] = broken
    everyone[2, place.rank] = signal_number
    dist.all_reduce(everyone)
    losses, flags, signals = everyone.tolist()
    mean = sum(losses) / place.world_size
    return mean, any(flags) or not math.isfinite(mean), int(max(signals))


def all_finite(model: torch.nn.Module) -> bool:
    """Whether this rank's weights are numbers; of stage 3, its share of them."""
    shares = (getattr(parameter, "ds_tensor", parameter) for parameter in model.parameters())
    return all(bool(torch.isfinite(share).all()) for share in shares)


def seed_step(seed: int, step: int, rank: int) -> None:
    """Dropout masks depend on nothing but these three, so a resumed run draws the same ones."""
    torch.manual_seed(int(np.random.SeedSequence((seed, step, rank)).generate_state(1)[0]))


def _prepare(args: Namespace, raw_config: dict[str, Any], place: Place, stop: StopRequest) -> Run:
    """Settle every open choice with the other ranks, and build what the loop needs. Collective."""
    config = dsconfig.complete(raw_config, args, world_size=place.world_size)
    dtype, why = precision.choose(dsconfig.requested_dtype(raw_config, args.dtype), place)
    dsconfig.set_dtype(config, dtype)
    save_dir = Path(args.save_dir).absolute() if args.save_dir else None
    node_local = save_dir is not None and checkpoint.each_host_has_its_own(save_dir, place)
    if node_local:
        config.setdefault("checkpoint", {})["use_node_local_storage"] = True
    if args.ds_config:
        dsconfig.validate(config)
    cache = Path(args.cache_dir) if args.cache_dir else tokenizing.default_cache()
    tokens = tokenizing.prepare(args.data, args.tokenizer, cache, place)
    samples = TrainingSamples(tokens.training, args.seq_len, args.seed)

    began = time.monotonic()
    # The same weights on every rank; DeepSpeed broadcasts those of rank 0 anyway.
    torch.manual_seed(args.seed)
    model = GPT(GPTShape(tokens.vocab_size, args.n_layer, args.d_model, args.n_head, args.dropout))
    parameters = model.parameter_count()
    engine = _engine(model, config, dtype, args, place)
    seconds = time.monotonic() - began

    batch = engine.micro_batch * engine.passes * place.world_size
    progress = Progress(
        place,
        steps=args.steps,
        tokens_per_step=batch * args.seq_len,
        flops_per_token=flops.per_token(parameters, args.n_layer, args.d_model, args.seq_len),
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
    identity = {
        "world_size": place.world_size,
        "engine": engine.kind,
        "dtype": dtype,
        "vocab_size": tokens.vocab_size,
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
    if args.resume:
        where = save_dir if args.resume == "auto" else Path(args.resume)
        assert where is not None, "the arguments have been checked"
        _resume(run, where, identity)
    if save_dir:
        checkpoint.require_none_beyond(save_dir, run.step)
    return run


def _engine(model: GPT, config: dict[str, Any], dtype: str, args: Namespace, place: Place) -> Engine:
    """`model` under the strategy that was asked for. Collective."""
    schedule = {"warmup": args.warmup, "decay_steps": args.lr_decay_steps}
    if not args.ds_config:
        return ddp.build(model, config, dtype=dtype, **schedule, place=place)
    # Imported late: DDP does without DeepSpeed, which takes seconds to load.
    import zero

    zero.prepare(place)
    return zero.build(model, config, **schedule, place=place)


def _resume(run: Run, where: Path, identity: dict[str, Any]) -> None:
    if run.args.resume == "auto":
        assert run.store is not None, "the arguments have been checked"
        path, notes = run.store.newest_intact()
        for note in notes:
            run.progress.note(note)
        if path is None:
            run.progress.note(
                f"no checkpoint in {where}{' any more' if notes else ' yet'}: starting at step 0"
            )
            return
    else:
        path = checkpoint.newest(where)
        reason = path and checkpoint.torn(path, run.place)
        if reason:
            raise UserError(f"{path} cannot be resumed: {reason}", hint="give an older one")
    if path is None:
        raise UserError(
            f"{where} holds no checkpoint that is whole on every host",
            hint="give the --save_dir of an earlier run, or one step-... directory in it",
        )
    record = checkpoint.read(path)
    differences = checkpoint.compare(path, record, identity)
    engine = run.engine
    wanted = optimization.settings(engine.optimizer, engine.scheduler)
    engine.load(path)
    run.step, run.consumed = record["step"], record["samples"]
    differences += optimization.impose(wanted, engine.optimizer, engine.scheduler)
    run.progress.note(f"resumed {path} at step {run.step}")
    if differences:
        run.progress.note(f"not an exact continuation: {', '.join(differences)}")
