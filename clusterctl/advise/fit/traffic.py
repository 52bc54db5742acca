"""Bytes that one rank sends in one optimizer step, and how long a network takes for them.

Counted from the collectives that DeepSpeed 0.19 was seen to make; the paper's figures (arXiv 1910.02054,
section 7: 2 Psi, and 3 Psi for stage 3) are those of one micro-batch, and of gradients that go to their
owner only.
"""

from __future__ import annotations

import msgspec

from clusterctl.advise.fit.job import Job, Strategy, World
from clusterctl.advise.fit.memory import trainable
from clusterctl.advise.fit.shapes import Shape


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """``bytes`` each rank sends, ``seconds`` on the network between hosts: None where none is passed, or its
    bandwidth is not known. Computing may hide a part of it."""

    bytes: int
    by_default: int
    """With DeepSpeed's own default for ``use_multi_rank_bucket_allreduce``, which `--write` turns off."""
    seconds: float | None


def of(shape: Shape, job: Job, strategy: Strategy, world: World) -> Traffic:
    """In units of (N - 1) / N x Psi x e, with gas micro-batches: stage 0 all-reduces gradients once, 2;
    stage 1 reduces them to their owner and gathers weights, 1 + 1; stage 2 does the former for every
    micro-batch, gas + 1; stage 3 gathers weights forward and backward and scatters gradients for each, 3
    gas.

    By DeepSpeed's default gradients of stages 1 and 2 are all-reduced: 2 + 1, and 2 gas + 1. Weights that
    do not learn are only ever gathered. A ring passes each link between hosts once each way: what one rank
    sends.
    """
    ring = (world.size - 1) / world.size * job.element
    learn, gas = trainable(shape, job), job.accumulation
    frozen = shape.parameters if job.method != "full" else 0
    if strategy.stage == 0:
        own = default = 2 * learn
    elif strategy.stage == 1:
        own, default = 2 * learn, 3 * learn
    elif strategy.stage == 2:
        own, default = (gas + 1) * learn, (2 * gas + 1) * learn
    else:
        own = default = gas * (3 * learn + 2 * frozen)
    sent = round(ring * own)
    between = len(world.ranks) > 1 and world.bandwidth
    return Traffic(
        bytes=sent,
        by_default=round(ring * default),
        seconds=sent / world.bandwidth if between and world.bandwidth else None,
    )
