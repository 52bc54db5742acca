"""Loss and perplexity on held-out text, the same text every time."""

from __future__ import annotations

import math

import torch
import torch.distributed as dist

from engine import Engine
from metrics import perplexity
from progress import Progress
from ranks import Place
from sampling import HeldoutBatches

# What a batch of --eval_batches is: as many on any number of ranks, and whatever --micro_batch is.
SAMPLES = 8


class Evaluation:
    """Evaluates `engine` on the first `batches` x 8 samples of the held-out text, or as many as it has."""

    def __init__(
        self, engine: Engine, samples: HeldoutBatches, batches: int, place: Place, progress: Progress
    ) -> None:
        self.engine = engine
        self.samples = samples
        self.place = place
        self.progress = progress
        self.micro_batch = engine.micro_batch
        self.windows = min(batches * SAMPLES, samples.windows)
        if batches and not self.windows:
            progress.note("too little held-out text for one sample: no perplexity")

    def run(self, step: int) -> float:
        """Report and return the loss after `step`, averaged over all ranks; 0 without samples. Collective."""
        if not self.windows:
            return 0.0
        place, size = self.place, self.micro_batch
        # In double: the sum is to be the same however the ranks divide it.
        total = torch.zeros((), dtype=torch.float64, device=place.device)
        for index in range(math.ceil(self.windows / (size * place.world_size))):
            inputs, targets, real = self.samples.batch(
                index, place.rank, size, place.world_size, self.windows
            )
            loss = self.engine.forward(inputs.to(place.device), targets.to(place.device))
            if real:
                # Without any target, the mean over targets is no number.
                total += loss.double() * real
        dist.all_reduce(total)
        mean = float(total) / self.windows
        self.progress.evaluation(step, mean, perplexity(mean), self.windows * self.samples.seq_len)
        return mean
