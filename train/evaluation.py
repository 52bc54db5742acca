"""Loss and perplexity on held-out text, the same text every time."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.distributed as dist

from progress import Progress
from ranks import Place
from sampling import HeldoutBatches


class Evaluation:
    """Evaluates `engine` on as many of the `wanted` batches per rank as the held-out text has."""

    def __init__(
        self, engine: Any, samples: HeldoutBatches, wanted: int, place: Place, progress: Progress
    ) -> None:
        self.engine = engine
        self.samples = samples
        self.place = place
        self.progress = progress
        self.micro_batch = engine.train_micro_batch_size_per_gpu()
        self.batches = samples.count(wanted, self.micro_batch, place.world_size)
        if wanted and not self.batches:
            progress.note("too little held-out text to evaluate a batch on every rank: no perplexity")

    def run(self, step: int) -> float:
        """Report and return the loss after `step`, averaged over all ranks; 0 without batches. Collective."""
        if not self.batches:
            return 0.0
        place, size = self.place, self.micro_batch
        total = torch.zeros((), device=place.device)
        self.engine.eval()
        with torch.no_grad():
            for index in range(self.batches):
                inputs, targets = self.samples.batch(index, place.rank, size, place.world_size)
                total += self.engine(inputs.to(place.device), targets.to(place.device)).float()
        self.engine.train()
        dist.all_reduce(total)
        loss = float(total) / (self.batches * place.world_size)
        tokens = self.batches * size * place.world_size * self.samples.seq_len
        self.progress.evaluation(step, loss, perplexity(loss), tokens)
        return loss


def perplexity(loss: float) -> float:
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf
