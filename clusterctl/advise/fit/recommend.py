"""All strategies of a job on given machines, each with what it needs, and which to take."""

from __future__ import annotations

from typing import Literal

import msgspec

from clusterctl.advise.fit import memory, traffic
from clusterctl.advise.fit.job import STRATEGIES, Job, Strategy, World
from clusterctl.advise.fit.memory import Memory
from clusterctl.advise.fit.shapes import Shape
from clusterctl.advise.fit.traffic import Traffic

Verdict = Literal["fits", "tight", "too large", "unknown"]
_MOST = 4096


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """``largest`` is the largest micro-batch that fits; None where nothing is known of the memory. ``tight``
    fits by the likely figure and not by the highest. ``lacks`` is what it does not fit into."""

    strategy: Strategy
    device: Memory
    host: Memory
    disk: int
    traffic: Traffic
    verdict: Verdict
    lacks: Literal["", "device", "host"]
    largest: int | None


class Advice(msgspec.Struct, frozen=True, kw_only=True):
    """``ranked`` has those that fit, best first; ``reasons`` say why the first is."""

    candidates: tuple[Candidate, ...]
    ranked: tuple[str, ...]
    reasons: tuple[str, ...]

    @property
    def best(self) -> Candidate | None:
        return self.named(self.ranked[0]) if self.ranked else None

    def named(self, name: str) -> Candidate | None:
        """The candidate of that name; for an empty one the best."""
        if not name:
            return self.best
        return next((each for each in self.candidates if each.strategy.name == name), None)


def advise(shape: Shape, job: Job, world: World) -> Advice:
    """Ranked by: on the GPUs before offloaded; surely before barely; the optimizer offloaded before all,
    before NVMe; then the fewest bytes on the wire; then the least memory."""
    candidates = tuple(_candidate(shape, job, strategy, world) for strategy in _possible(job, world))
    fitting = [each for each in candidates if each.verdict in ("fits", "tight")]
    fitting.sort(key=lambda each: _order(each, world))
    return Advice(
        candidates=candidates,
        ranked=tuple(each.strategy.name for each in fitting),
        reasons=(*_reasons(fitting, candidates, job, world), *_checkpointed(fitting, shape, job, world)),
    )


def _checkpointed(fitting: list[Candidate], shape: Shape, job: Job, world: World) -> tuple[str, ...]:
    """What could stay on the GPUs if activations were computed again, a third more work at most."""
    if job.checkpointing or not fitting or not fitting[0].strategy.offloads:
        return ()
    again = msgspec.structs.replace(job, checkpointing=True)
    better = [each for each in advise(shape, again, world).candidates if not each.strategy.offloads]
    better = [each for each in better if each.verdict in ("fits", "tight")]
    better.sort(key=lambda each: _order(each, world))
    return tuple(f"with --checkpointing {each.strategy.name} fits, too" for each in better[:1])


def _possible(job: Job, world: World) -> tuple[Strategy, ...]:
    found: tuple[Strategy, ...] = STRATEGIES
    if world.on_cpus:
        found = tuple(each for each in found if not each.offloads)  # there is one memory only
    if job.method == "qlora":
        found = tuple(each for each in found if each.weights == "device")  # packed ones are not offloaded
    return found


def _order(each: Candidate, world: World) -> tuple[int, int, int, int, int]:
    alone = each.strategy.stage if world.size == 1 else 0
    return (
        bool(each.strategy.offloads),
        each.verdict == "tight",
        each.strategy.offloads,
        each.traffic.bytes + alone,
        each.device.peak.bytes,
    )


def _candidate(shape: Shape, job: Job, strategy: Strategy, world: World) -> Candidate:
    device, host = memory.on_device(shape, job, strategy, world), memory.on_host(shape, job, strategy, world)
    verdict, lacks = _verdict(device, host, world)
    return Candidate(
        strategy=strategy,
        device=device,
        host=host,
        disk=memory.on_disk(shape, job, strategy, world),
        traffic=traffic.of(shape, job, strategy, world),
        verdict=verdict,
        lacks=lacks,
        largest=_largest(shape, job, strategy, world),
    )


def _verdict(device: Memory, host: Memory, world: World) -> tuple[Verdict, Literal["", "device", "host"]]:
    if world.device is not None and device.peak.bytes > world.device:
        return "too large", "device"
    if world.host is not None and host.peak.bytes > world.host:
        return "too large", "host"
    if (world.host if world.on_cpus else world.device) is None:
        return "unknown", ""
    tight = (world.device is not None and device.peak.high > world.device) or (
        world.host is not None and host.peak.high > world.host
    )
    return ("tight" if tight else "fits"), ""


def _largest(shape: Shape, job: Job, strategy: Strategy, world: World) -> int | None:
    """By bisection: memory grows with the micro-batch. 0 where not even 1 fits."""
    if (world.host if world.on_cpus else world.device) is None:
        return None

    def fits(micro_batch: int) -> bool:
        tried = msgspec.structs.replace(job, micro_batch=micro_batch)
        device, host = (
            memory.on_device(shape, tried, strategy, world),
            memory.on_host(shape, tried, strategy, world),
        )
        return _verdict(device, host, world)[0] != "too large"

    low, high = 0, _MOST + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _reasons(
    fitting: list[Candidate], all_of_them: tuple[Candidate, ...], job: Job, world: World
) -> list[str]:
    if not fitting:
        if any(each.verdict == "unknown" for each in all_of_them):
            return []
        return _remedies(all_of_them, job, on_cpus=world.on_cpus)
    best = fitting[0]
    name = best.strategy.name
    if best.strategy.offloads:
        said = [f"{name}: nothing fits without offloading, which is slower"]
    elif world.size == 1:
        said = [f"{name}: with one rank there is nothing to shard"]
    else:
        said = [f"{name}: fits without offloading, and none that does sends less"]
    smaller = [
        each
        for each in all_of_them
        if each.strategy.stage < best.strategy.stage and each.verdict == "too large"
    ]
    if smaller and not best.strategy.offloads:
        said.append(f"{', '.join(each.strategy.name for each in smaller)}: too large for this memory")
    if best.verdict == "tight":
        said.append("it is tight: by the highest estimate it does not fit")
    if best.strategy.stage >= 2 and job.accumulation > 1:
        said.append(f"it sends more with each of the {job.accumulation} micro-batches: rather enlarge them")
    return said


def _remedies(candidates: tuple[Candidate, ...], job: Job, *, on_cpus: bool) -> list[str]:
    said = ["nothing fits"]
    if not job.checkpointing:
        said.append("try --checkpointing: activations of one layer at a time")
    if job.micro_batch > 1:
        said.append("try --micro-batch 1 with --gas")
    if job.method == "full":
        said.append("try --lora or --qlora")
    alone = [each for each in candidates if each.lacks == "host" and not each.strategy.offloads]
    if alone and not on_cpus:
        said.append("what keeps it out is the host's memory, into which each rank loads the model")
    elif all(each.lacks == "host" for each in candidates if each.strategy.offloads):
        said.append("offloading needs more host memory than there is")
    return said
