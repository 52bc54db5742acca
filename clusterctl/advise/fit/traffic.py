"""Bytes that one rank sends in one optimizer step, and how long a network takes for them.

Which collectives DeepSpeed 0.19 makes of which tensors was counted (docs/fit.md); what a library sends for
one is in its source. The paper's figures (arXiv 1910.02054, section 7: 2 Psi, and 3 Psi for stage 3) are
those of one micro-batch, and of gradients that go to their owner only.
"""

from __future__ import annotations

import msgspec

from clusterctl.advise.fit.gathering import Limits, gathered
from clusterctl.advise.fit.job import Job, Strategy, World
from clusterctl.advise.fit.memory import gathered_width, prefetched, reused, trainable
from clusterctl.advise.fit.shapes import Shape

SEGMENT = 1 << 20
"""Bytes: gloo's largest segment of a reduce."""


class Collectives(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of the whole tensors that all ranks together reduce or gather in one step, by kind."""

    all_reduce: int = 0
    reduce: int = 0
    all_gather: int = 0
    reduce_scatter: int = 0


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """``bytes`` each rank sends, ``seconds`` on the network between hosts: None where none is passed, or its
    bandwidth is not known. Computing may hide a part of it."""

    bytes: int
    by_default: int
    """With DeepSpeed's own default for ``use_multi_rank_bucket_allreduce``, which `--write` turns off."""
    seconds: float | None


def of(shape: Shape, job: Job, strategy: Strategy, world: World) -> Traffic:
    """A ring passes each link between hosts once each way: what one rank sends."""
    own, default = (
        sent(collectives(shape, job, strategy, to_owner=to_owner), job, world) for to_owner in (True, False)
    )
    between = len(world.ranks) > 1 and world.bandwidth
    return Traffic(
        bytes=own,
        by_default=default,
        seconds=own / world.bandwidth if between and world.bandwidth else None,
    )


def collectives(shape: Shape, job: Job, strategy: Strategy, *, to_owner: bool = True) -> Collectives:
    """With Psi parameters and gas micro-batches: stage 0 all-reduces gradients once; stage 1 reduces them to
    their owner, once, and gathers weights; stage 2 does the former for every micro-batch. By DeepSpeed's
    default (not ``to_owner``) both all-reduce them instead.

    Stage 3 scatters gradients and gathers weights for each micro-batch; weights that do not learn are only
    ever gathered.
    """
    learn, gas = trainable(shape, job), job.accumulation
    if strategy.stage == 0:
        return Collectives(all_reduce=job.element * learn)
    if strategy.stage < 3:
        gradients = job.element * learn * (gas if strategy.stage == 2 else 1)
        return Collectives(
            reduce=gradients if to_owner else 0,
            all_reduce=0 if to_owner else gradients,
            all_gather=job.element * learn,
        )
    kept = reused(shape) if job.reuse is None else job.reuse
    limits = Limits(ahead=prefetched(shape), live=kept, reuse=kept)
    adapters = learn if job.method != "full" else 0
    return Collectives(
        reduce_scatter=job.element * gas * learn,
        all_gather=round(gathered_width(shape, job) * gas * gathered(shape, limits, adapters)),
    )


def sent(made: Collectives, job: Job, world: World) -> int:
    """Bytes by each rank.

    NCCL's rings (nccl-tests, PERFORMANCE.md): an all-reduce sends 2 (N - 1) / N of the tensor, gathering and
    scattering half of that, and so does a reduce on average, in whose chain all but its root send. gloo's
    all-reduce and all-gather do as much; its scattering is an all-reduce of which a rank keeps its part
    (PyTorch, ProcessGroupGloo.cpp).
    """
    ring = (world.size - 1) / world.size
    scatter, to_owner = ring, ring
    if world.library == "gloo":
        scatter, to_owner = 2 * ring, _gloo_reduce(made.reduce, job, world)
    return round(
        2 * ring * made.all_reduce
        + to_owner * made.reduce
        + ring * made.all_gather
        + scatter * made.reduce_scatter
    )


def _gloo_reduce(size: int, job: Job, world: World) -> float:
    """What a rank sends of each byte that is reduced to one rank, in buckets of which each owner has a part.

    gloo/reduce.cc: a ring over segments, of which each rank has two at the least, in which a rank sends all
    but two; then the root gets what each of the others has reduced.
    """
    ranks = world.size
    if ranks == 1 or not size:
        return 0.0
    part = max(1, min(job.element * job.bucket, size // ranks))
    segment = min(-(-part // (2 * ranks)), SEGMENT)
    segments = max(2 * ranks, -(-part // (segment * ranks)) * ranks)
    return (segments - 2) / segments + (ranks - 1) / ranks**2
