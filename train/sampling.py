"""Which tokens a rank sees at which step: a pure function of the seed and the samples consumed so far.

It keeps no state, so a resumed run continues exactly, and all ranks always get batches of equal size.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from errors import UserError

# The target that cross_entropy leaves out.
IGNORED = -100


class TrainingSamples:
    """An endless sequence of windows over the tokens: an epoch visits each once, in its own order."""

    def __init__(self, tokens: np.ndarray, seq_len: int, seed: int) -> None:
        self.tokens = tokens
        self.seq_len = seq_len
        self.seed = seed
        # One window is kept back so that each epoch can cut the text at another offset.
        self.per_epoch = (len(tokens) - 1) // seq_len - 1
        if self.per_epoch < 1:
            raise UserError(
                f"{len(tokens):,} training tokens are too few for --seq_len {seq_len}",
                hint="give more text, or a smaller --seq_len",
            )
        self._epoch = lru_cache(maxsize=2)(self._draw_epoch)

    def batch(self, first: int, rank: int, size: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets, (size, seq_len), of the samples `first + rank * size` onwards."""
        begin = first + rank * size
        return _stack(
            self.tokens, [self._start(sample) for sample in range(begin, begin + size)], self.seq_len
        )

    def _start(self, sample: int) -> int:
        epoch, position = divmod(sample, self.per_epoch)
        offset, order = self._epoch(epoch)
        return offset + int(order[position]) * self.seq_len

    def _draw_epoch(self, epoch: int) -> tuple[int, np.ndarray]:
        draw = np.random.default_rng((self.seed, epoch))
        return int(draw.integers(self.seq_len)), draw.permutation(self.per_epoch)


class HeldoutBatches:
    """The same held-out windows at every evaluation and on any number of ranks, which divide them.

    All ranks compute equally many batches, as collectives need it: a batch is filled up with windows that
    have no targets, marked by IGNORED.
    """

    def __init__(self, tokens: np.ndarray, seq_len: int) -> None:
        self.tokens = tokens
        self.seq_len = seq_len
        self.windows = max(0, (len(tokens) - 1) // seq_len)

    def batch(
        self, index: int, rank: int, size: int, world_size: int, windows: int
    ) -> tuple[Tensor, Tensor, int]:
        """Inputs, targets, and how many of these samples are among the first `windows`."""
        begin = (index * world_size + rank) * size
        mine = range(begin, begin + size)
        inputs, targets = _stack(
            self.tokens, [window * self.seq_len if window < windows else 0 for window in mine], self.seq_len
        )
        real = max(0, min(size, windows - begin))
        targets[real:] = IGNORED
        return inputs, targets, real


def _stack(tokens: np.ndarray, starts: list[int], seq_len: int) -> tuple[Tensor, Tensor]:
    windows = np.stack([tokens[start : start + seq_len + 1] for start in starts]).astype(np.int64)
    both = torch.from_numpy(windows)
    return both[:, :-1].contiguous(), both[:, 1:].contiguous()
