"""Bytes on one device and on one host, line by line, of a job under a strategy.

Model states follow Rajbhandari et al., "ZeRO" (arXiv 1910.02054, section 3 and table 1), corrected by what
DeepSpeed 0.19 was seen to hold (docs/fit.md): its fp32 training keeps a separate master partition, its step
copies the gradients twice, ZeRO-3 keeps bucket and gradients all the time.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from clusterctl.advise.fit import activations
from clusterctl.advise.fit.job import Job, Strategy, World
from clusterctl.advise.fit.shapes import Shape

_GIGA = 10**9
_CONTEXT = (0.6, 1.2, 2.0)
"""GB of a CUDA context with cuBLAS and NCCL. Common figures, not measured here."""
_FRAGMENTED = (0.0, 0.03, 0.10)
"""What the caching allocator holds and cannot use, as a share. An assumption."""
_NORM_CHUNK = 250_000_000
"""Elements of a gradient that ZeRO-3 turns into fp64 at once for its norm, where it is offloaded."""
_PROCESS = (0.5, 1.0, 3.0)
"""GB of host memory of a training process without the model: Python, torch, libraries."""
_NF4, _SCALES = 0.5, 1 / 64 + 4 / (64 * 256)
"""Bytes of a weight in NF4, and of its scales: one byte for 64, an fp32 number for 256 of those (double
quantization: Dettmers et al., arXiv 2305.14314, section 3). ZeRO-3 shards the former only."""


class Line(msgspec.Struct, frozen=True):
    """One kind of memory in bytes, with the least and the most that it may be."""

    name: str
    bytes: int
    low: int
    high: int


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """``lines`` are all that there can be of each kind; not all of it is there at once, so that ``peak`` is
    less than their sum. ``phase`` is when that is."""

    lines: tuple[Line, ...]
    peak: Line
    phase: str

    def of(self, name: str) -> int:
        """Bytes of one line; 0 where there is none."""
        return sum(each.bytes for each in self.lines if each.name == name)


class States(msgspec.Struct, frozen=True, kw_only=True):
    """Of one rank, each on the device or in the host's memory or on its disk, as the strategy says."""

    weights: int
    master: int
    moments: int
    gradients: int
    """What is kept between backward and step."""
    resting: int
    """Of ``weights``, what does not lie on the device between uses."""
    gathered: int
    """Gradients that are whole on this rank when a backward pass ends."""


def prefetched(shape: Shape) -> int:
    """Elements that ZeRO-3 gathers ahead of their use, as Hugging Face's "auto" has it."""
    return round(0.9 * shape.hidden**2)


def reused(shape: Shape) -> int:
    """Elements up to which ZeRO-3 keeps what it has gathered, if they are needed again so soon."""
    return 2 * shape.largest_layer


def trainable(shape: Shape, job: Job) -> int:
    """Parameters that learn."""
    return shape.parameters if job.method == "full" else shape.lora(job.lora_rank)


def largest_trained(shape: Shape, job: Job) -> int:
    """Elements of the largest matrix that has a gradient."""
    if job.method != "full":
        return job.lora_rank * max(max(each.inputs, each.outputs) for each in shape.linears)
    return max(shape.vocabulary * shape.hidden, *(each.inputs * each.outputs for each in shape.linears))


def frozen(shape: Shape, job: Job) -> float:
    """Bytes of the weights that do not learn, without what NF4 scales them by."""
    if job.method == "full":
        return 0.0
    packed = shape.in_linears if job.method == "qlora" else 0
    return job.element * (shape.parameters - packed) + _NF4 * packed


def gathered_width(shape: Shape, job: Job) -> float:
    """Bytes of an element as ZeRO-3 gathers it: packed ones stay packed."""
    return frozen(shape, job) / shape.parameters if job.method == "qlora" else job.element


def states(shape: Shape, job: Job, strategy: Strategy, ranks: int) -> States:
    """Per rank, with Psi parameters of e bytes and N ranks, for Adam in mixed precision: stage 0 (e + 12)
    Psi and e Psi of gradients; stages 1 and 2 e Psi + 12 Psi / N; stage 3 (e + 12) Psi / N.

    In fp32 stage 0 needs no master copy; DeepSpeed's stages 1 to 3 keep one all the same. LoRA's frozen
    weights have neither gradients nor moments (arXiv 2106.09685); under QLoRA the blocks' matrices are in
    NF4.
    """
    element, learn = job.element, trainable(shape, job)
    scales = _SCALES * shape.in_linears if job.method == "qlora" else 0.0
    shard = ranks if strategy.stage else 1
    sharded = frozen(shape, job) + element * learn
    weights = sharded / (shard if strategy.stage == 3 else 1) + scales
    master = 4 * learn / shard if strategy.stage or job.precision != "fp32" else 0
    whole = strategy.stage == 0 or (strategy.stage == 1 and job.accumulation > 1)
    return States(
        weights=round(weights),
        master=round(master),
        moments=round(job.moments * learn / shard),
        gradients=round(element * learn / (1 if whole else shard)),
        resting=round(weights) if strategy.weights != "device" else 0,
        gathered=round(element * learn) if strategy.stage < 2 else 0,
    )


def on_device(shape: Shape, job: Job, strategy: Strategy, world: World) -> Memory:
    """The memory of one rank's GPU, or of one rank's process on a CPU (what offload saves is not saved
    there).

    The peak is the largest of four moments: the loss goes backward (all activations and logits), a layer is
    computed again (checkpointing), the backward pass ends (all gradients), the optimizer steps.
    """
    own = states(shape, job, strategy, world.size)
    learn, element = trainable(shape, job), job.element
    aside = strategy.states != "device"
    master, moments = (0, 0) if aside else (own.master, own.moments)
    gradients = 0 if aside else own.gradients
    weights = own.weights - own.resting
    matrix = largest_trained(shape, job)
    largest = element * matrix
    bucket = element * min(job.bucket, learn)
    if strategy.stage and not world.on_cpus:
        bucket *= 2  # overlap_comm: one is filled while the other is sent
    gathering = 0
    if strategy.stage == 3:
        # What was gathered in one piece stays until all of it has been used.
        live = reused(shape) + prefetched(shape)
        gathering = round(gathered_width(shape, job) * min(live, shape.parameters))
    layer, end = activations.of_layer(shape, job), activations.of_end(shape, job)
    at_loss = activations.logits(shape, job)
    kept = shape.layers * (
        element * shape.hidden * job.micro_batch * job.sequence if job.checkpointing else layer
    )
    held = weights + master + moments
    always = gradients if strategy.stage == 3 or job.accumulation > 1 else 0
    standing = bucket if strategy.stage == 3 else largest if aside else 0
    again = layer if job.checkpointing else 0
    handed = _handed_over(shape, matrix, job, strategy, world)
    step = 0 if aside else _in_step(learn, job, strategy, world.size)
    filling = 0 if strategy.stage == 1 and job.accumulation == 1 else bucket
    moments_of_time = {
        "loss": held + always + standing + gathering + kept + end + at_loss,
        "backward": held + always + bucket + gathering + kept + again + largest + handed,
        "end of backward": held
        + max(gradients + (own.gathered if strategy.stage == 1 and job.accumulation == 1 else 0), always)
        + filling
        + gathering
        + (standing if aside and strategy.stage == 2 else 0)
        + largest
        + handed,
        "step": held + step + standing,
    }
    phase, peak = max(moments_of_time.items(), key=lambda each: each[1])
    loose = 0.35 if shape.assumed or shape.family in activations.UNCERTAIN else 0.05
    loose += 0.15 if job.method != "full" else 0
    lines = [
        _exact("weights", weights),
        _exact("master weights", master),
        _exact("optimizer", moments),
        _exact("gradients", gradients),
        _between("buffers", max(bucket, step - own.gradients, 0) + gathering, bucket, 1.5),
        _loose("activations", kept + again + end, loose),
        _loose("logits", at_loss, 0.15),
    ]
    if not world.on_cpus:
        overhead = [round(c * _GIGA + f * peak) for c, f in zip(_CONTEXT, _FRAGMENTED, strict=True)]
        lines.append(Line("overhead", overhead[1], overhead[0], overhead[2]))
    else:
        overhead = [0, 0, 0]
    moving = {"loss": ("activations", "logits"), "backward": ("activations", "buffers")}.get(
        phase, ("buffers",)
    )
    less = sum(each.bytes - each.low for each in lines if each.name in moving)
    more = sum(each.high - each.bytes for each in lines if each.name in moving)
    whole = Line("peak", peak + overhead[1], max(held, peak - less) + overhead[0], peak + more + overhead[2])
    return Memory(lines=tuple(each for each in lines if each.high), peak=whole, phase=phase)


def on_host(shape: Shape, job: Job, strategy: Strategy, world: World) -> Memory:
    """Memory of the host with the most ranks: what is offloaded (on CPUs all that is trained), and loading
    the model.

    DeepSpeed holds aside per rank, besides master weights and moments, fp32 gradients and those in the
    model's precision. Each rank loads a whole model, in its own precision at best and in fp32 at worst,
    unless it is built under zero.Init. What is packed on its way to the device passes tensor by tensor.
    """
    ranks = max(world.ranks)
    own = states(shape, job, strategy, world.size)
    learn = trainable(shape, job)
    aside = 0
    if strategy.states == "host":
        aside = own.master + own.moments + round((4 + job.element) * learn / world.size)
        aside += own.resting if strategy.weights == "host" else 0
        aside += job.element * largest_trained(shape, job) if strategy.stage == 2 else 0
    elif strategy.states == "disk":
        aside = round((4 + job.element) * learn / world.size)
    kept = _exact("offloaded", ranks * aside)
    if world.on_cpus:
        peak = on_device(shape, job, strategy, world).peak
        kept = Line("training", *(ranks * each for each in (peak.bytes, peak.low, peak.high)))
    loading, most = job.element * shape.parameters, 4 * shape.parameters
    if job.method == "qlora":
        loading, most = job.element * shape.largest_layer, loading
    processes = [round(ranks * each * _GIGA) for each in _PROCESS]
    lines = (
        Line("processes", processes[1], processes[0], processes[2]),
        kept,
        Line(
            "loading",
            ranks * loading,
            0 if strategy.stage == 3 else ranks * loading,
            ranks * most,
        ),
    )
    highest = [max(getattr(kept, which), getattr(lines[2], which)) for which in ("low", "bytes", "high")]
    whole = Line("peak", *(processes[at] + highest[at] for at in (1, 0, 2)))
    return Memory(
        lines=tuple(each for each in lines if each.high),
        peak=whole,
        phase="loading" if ranks * loading > kept.bytes else "training",
    )


def on_disk(shape: Shape, job: Job, strategy: Strategy, world: World) -> int:
    """Bytes of NVMe on the host with the most ranks."""
    own = states(shape, job, strategy, world.size)
    kept = (own.master + own.moments) * (strategy.states == "disk") + own.resting * (
        strategy.weights == "disk"
    )
    return max(world.ranks) * kept


def _handed_over(shape: Shape, matrix: int, job: Job, strategy: Strategy, world: World) -> int:
    """What is held besides while the gradient of the largest matrix leaves for its owner: an fp64 copy for
    its norm where it is offloaded, and in gloo's reduce_scatter a copy of it."""
    norm = 0
    if strategy.states != "device":
        whole = strategy.stage < 3
        share = min(matrix, -(-trainable(shape, job) // world.size)) if whole else -(-matrix // world.size)
        norm = 8 * (share if whole else min(share, _NORM_CHUNK))
    copied = job.element * matrix if strategy.stage == 3 and world.on_cpus and world.size > 1 else 0
    return max(norm, copied)


def _in_step(learn: int, job: Job, strategy: Strategy, ranks: int) -> int:
    """Gradients in all their copies while the optimizer steps: as they were, in one piece, in fp32."""
    element = job.element
    if strategy.stage == 0:
        return learn * (element + 4)
    return round((2 * element + 4 if element == 2 else 2 * element) * learn / ranks)


def _exact(name: str, size: int) -> Line:
    return Line(name, size, size, size)


def _loose(name: str, size: int, share: float) -> Line:
    return Line(name, size, round(size * (1 - share)), round(size * (1 + share)))


def _between(name: str, size: int, low: int, factor: float) -> Line:
    return Line(name, size, min(low, size), round(size * factor))


def total(lines: Iterable[Line]) -> int:
    """Bytes of all together."""
    return sum(each.bytes for each in lines)
