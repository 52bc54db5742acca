"""The loop: step after step, with evaluations and checkpoints in between."""

from __future__ import annotations

import math
import time
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import torch
import torch.distributed as dist

import ranks
import restoring
from checkpoint import Checkpoints, tag
from engine import Batch, Engine
from errors import Diverged
from evaluation import Evaluation
from progress import Progress, Step
from ranks import Place
from sampling import TrainingSamples
from stopping import StopRequest


@dataclass
class Run:
    """One training run between its first and its last step."""

    args: Namespace
    engine: Engine
    samples: TrainingSamples
    place: Place
    progress: Progress
    evaluation: Evaluation
    store: Checkpoints | None
    stop: StopRequest
    step: int = 0
    consumed: int = 0
    first: int = 0
    # Seconds that the batches of this step took to come.
    waited: float = 0.0

    def train(self) -> int:
        """Train to the last step; the number of the signal that ended it early, or 0. Collective."""
        args, ended = self.args, 0
        self.first = self.step
        while self.step < args.steps and not ended:
            ended = self._step(show_first=self.step == self.first)
            last = self.step == args.steps
            if self._is_due(args.eval_every, last) and not ended:
                self._evaluate()
            if self.store and (self._is_due(args.save_every, last) or ended):
                self._save(self.store)
        if self.step == self.first:
            self._evaluate()
        elif self.store:
            self.store.prune()
        self.progress.goodbye(self.step - self.first, f"stopped by signal {ended}" if ended else "done")
        return ended

    def _is_due(self, every: int, last: bool) -> bool:
        return last or (every > 0 and self.step % every == 0)

    def _step(self, *, show_first: bool) -> int:
        """One optimizer step; the number of a signal that any rank got, or 0."""
        began = time.monotonic()
        if self.args.dropout:
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
            # What this step began with is no good: a checkpoint of it would end the same way.
            said = "n/a" if norm is None else f"{norm:g}"
            self._give_up(f"loss is {loss:g}, gradient norm {said}", but=tag(self.step - 1))
        if self.store:
            self.store.prune()
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

    def _give_up(self, what: str, *, but: str = "") -> NoReturn:
        """End on all ranks, and leave the checkpoints as they are; the one named `but` is not advised."""
        last = self.store and restoring.newest(self.store.directory, self.place, but={but})
        self.progress.goodbye(self.step - self.first, "diverged")
        raise Diverged(
            f"{what} at step {self.step}: training cannot go on, and this state is not saved"
            "\nhint: "
            + (f"--resume {last.path} with" if last else "begin again with")
            + " a lower --lr, a longer --warmup, or other --data"
        )

    def _save(self, store: Checkpoints) -> None:
        if any(ranks.gather(not all_finite(self.engine.module))):
            self._give_up("weights are nan or inf")
        path = store.save(self.engine, self.step, self.consumed)
        self.progress.note(f"saved {path}")


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
