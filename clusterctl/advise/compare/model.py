"""What was measured: one trial is one run of one strategy."""

from __future__ import annotations

from typing import Literal

import msgspec

from clusterctl.advise.fit.job import Precision

Ending = Literal["measured", "failed", "stopped"]
KINDS = ("weights", "gradients", "optimizer", "activations")


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of the tensors of one rank on its device: weights and optimizer after a step, gradients with the
    buffers they are sent in before one, activations at the end of the forward pass, the most at once.
    ``host`` is what lies in its host's memory, where that is another."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    peak: int
    host: int | None = None

    @property
    def kinds(self) -> tuple[int, ...]:
        """In the order of `KINDS`."""
        return self.weights, self.gradients, self.optimizer, self.activations


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """One step over all ranks: seconds of the slowest, tokens of all; None is what nobody told."""

    step: int
    seconds: float | None = None
    tokens: int | None = None
    loss: float | None = None
    mfu: float | None = None


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What ranks told of themselves while their tensors were counted. ``parameters`` are those of the whole
    model."""

    parameters: int
    precision: Precision | None = None
    accumulation: int = 1
    device: str = ""


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """``held`` is by rank. ``sent`` is bytes a step that each host put on its network, after the warm-up.
    ``cause`` and ``hint`` say why it is not measured."""

    strategy: str
    repetition: int
    run: str = ""
    ending: Ending
    cause: str = ""
    hint: str = ""
    out_of_memory: bool = False
    steps: tuple[Taken, ...] = ()
    held: dict[int, Held] = {}
    told: Told | None = None
    sent: dict[str, float] = {}
    seconds: float = 0.0


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """One host: hosts with one ``machine`` (the boot of a kernel) share its cores; ``load`` is how many
    processes wanted one in the five minutes before. ``memory`` is that of its smallest GPU."""

    host: str
    ranks: int
    machine: str = ""
    cores: int | None = None
    load: float | None = None
    gpus: tuple[str, ...] = ()
    memory: int | None = None


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """The whole record. ``steps`` of each run, of which ``warmup`` are not timed; ``trials`` in the order
    they ran. ``finished``: none of those that were wanted is missing."""

    schema: Literal["clusterctl.compare/1"] = "clusterctl.compare/1"
    id: str
    version: str
    script: str
    arguments: tuple[str, ...] = ()
    strategies: tuple[str, ...]
    steps: int
    warmup: int
    repeats: int
    places: tuple[Place, ...]
    trials: tuple[Trial, ...] = ()
    finished: bool = False

    @property
    def ranks(self) -> int:
        return sum(place.ranks for place in self.places)

    def of(self, strategy: str) -> tuple[Trial, ...]:
        """Its trials, in their order."""
        return tuple(each for each in self.trials if each.strategy == strategy)
