"""What is to be trained, how, and on what: the questions that `fit` answers."""

from __future__ import annotations

from typing import Literal

import msgspec

Precision = Literal["bf16", "fp16", "fp32"]
Method = Literal["full", "lora", "qlora"]
Optimizer = Literal["adamw", "sgd"]
Place = Literal["device", "host", "disk"]
Library = Literal["nccl", "gloo"]


class Strategy(msgspec.Struct, frozen=True):
    """``stage`` is ZeRO's; ``states`` is where master weights and moments live, ``weights`` where the rest of
    the parameters do while they are not used."""

    name: str
    stage: int
    states: Place = "device"
    weights: Place = "device"

    @property
    def offloads(self) -> int:
        """How much is slower memory's: 0 nothing, 1 the optimizer, 2 all, 3 on a disk."""
        return (
            3
            if "disk" in (self.states, self.weights)
            else (self.states != "device") + (self.weights != "device")
        )


STRATEGIES = (
    Strategy("ddp", 0),
    Strategy("zero1", 1),
    Strategy("zero2", 2),
    Strategy("zero3", 3),
    Strategy("zero2-offload", 2, "host"),
    Strategy("zero3-offload", 3, "host", "host"),
    Strategy("zero3-nvme", 3, "disk", "disk"),
)


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """``accumulation`` is DeepSpeed's gradient_accumulation_steps. ``bucket`` counts elements, as DeepSpeed's
    reduce_bucket_size."""

    sequence: int = 2048
    micro_batch: int = 1
    accumulation: int = 1
    precision: Precision = "bf16"
    optimizer: Optimizer = "adamw"
    method: Method = "full"
    lora_rank: int = 16
    checkpointing: bool = False
    flash: bool = True
    """Attention without a matrix of scores: what PyTorch's scaled_dot_product_attention does by itself."""
    bucket: int = 50_000_000
    reuse: int | None = None
    """Elements, as DeepSpeed's stage3_max_reuse_distance; None for what `config.ds_config` writes."""

    @property
    def element(self) -> int:
        """Bytes of one weight or activation."""
        return 4 if self.precision == "fp32" else 2

    @property
    def moments(self) -> int:
        """Bytes the optimizer keeps for each parameter besides the weights: two fp32 moments, or one."""
        return 8 if self.optimizer == "adamw" else 4


class World(msgspec.Struct, frozen=True, kw_only=True):
    """``ranks`` of each host. ``device`` is the memory of the smallest GPU, ``host`` that of the host with
    the least; None where it is not known. ``bandwidth`` between hosts is bytes per second; ``library`` is
    what ranks talk by."""

    ranks: tuple[int, ...]
    device: int | None = None
    host: int | None = None
    bandwidth: float | None = None
    library: Library = "nccl"

    @property
    def size(self) -> int:
        return sum(self.ranks)

    @property
    def on_cpus(self) -> bool:
        """Ranks train on CPUs, so that they talk by gloo, and the host's memory is all there is."""
        return self.library == "gloo"
