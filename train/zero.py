"""ZeRO by DeepSpeed: optimizer state, gradients and weights are divided among the ranks, stage by stage."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import deepspeed
import torch
from deepspeed.ops.op_builder import AsyncIOBuilder
from torch import Tensor
from torch.optim import Optimizer

import optimization
import ranks
import universal
from engine import Batch
from errors import UserError
from model import GPT
from ranks import Place


class Zero:
    """An Engine around DeepSpeed's."""

    def __init__(self, engine: Any, place: Place) -> None:
        self.engine = engine
        self.place = place
        stage = engine.zero_optimization_stage()
        offloads = (engine.zero_offload_optimizer(), engine.zero_offload_param())
        to_nvme = any(offload and offload.device == "nvme" for offload in offloads)
        self.kind = f"zero{stage}-nvme" if to_nvme else f"zero{stage}"
        self.title = f"DeepSpeed {deepspeed.__version__}, ZeRO stage {stage}"
        self.module: GPT = engine.module
        self.optimizer: Optimizer = engine.optimizer
        self.scheduler = engine.lr_scheduler
        self.micro_batch: int = engine.train_micro_batch_size_per_gpu()
        self.passes: int = engine.gradient_accumulation_steps()
        self.may_overflow: bool = engine.fp16_enabled()

    @property
    def skipped(self) -> int:
        return int(self.engine.skipped_steps)

    def step(self, batches: Iterable[Batch]) -> tuple[Tensor, float | None]:
        total = torch.zeros((), device=self.place.device)
        for inputs, targets in batches:
            loss = self.engine(inputs, targets)
            # DeepSpeed divides by the passes and knows by itself which step() completes a batch.
            self.engine.backward(loss)
            self.engine.step()
            total += loss.detach().float()
        norm = self.engine.get_global_grad_norm()
        return total / self.passes, None if norm is None else float(norm)

    def forward(self, inputs: Tensor, targets: Tensor | None = None) -> Tensor:
        self.engine.eval()
        with torch.no_grad():
            answer: Tensor = self.engine(inputs, targets)
        self.engine.train()
        return answer

    def save(self, path: Path, *, is_writer: bool) -> None:
        self.engine.save_checkpoint(str(path.parent), tag=path.name, save_latest=False)

    def load(self, path: Path, *, writers: int) -> None:
        if writers == self.place.world_size or self.kind == "zero0":
            self._load(path)
            return
        with universal.converted(path, self.place) as found:
            # As "load_universal" of a ds_config, which would hold for every checkpoint of the run.
            self.engine._config.load_universal_checkpoint = True
            self._load(found)
            self.engine._config.load_universal_checkpoint = False
        for state in self.engine.optimizer.optimizer.state.values():
            # ZeRO-3 comes back with one counter of steps for all groups, and each would count it up.
            if torch.is_tensor(state.get("step")):
                state["step"] = state["step"].clone()

    def _load(self, path: Path) -> None:
        self.engine.load_checkpoint(str(path.parent), tag=path.name)

    def weights(self) -> dict[str, Tensor]:
        weights = {}
        for name, parameter in self.module.named_parameters(remove_duplicate=False):
            with deepspeed.zero.GatheredParameters(parameter):
                if self.place.is_first:
                    weights[name] = parameter.detach().float().cpu().clone()
        return weights


def prepare(place: Place) -> None:
    """Tell DeepSpeed of the ranks that have already met."""
    if place.on_cpu:
        # DeepSpeed would compile this one at start. It serves inference only, and hosts may have no compiler.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist_backend=place.backend, verbose=False, timeout=ranks.COLLECTIVE_TIMEOUT)


def sharded(config: dict[str, Any]) -> AbstractContextManager[Any]:
    """In ZeRO-3, what is made in here is divided among the ranks layer by layer, as it is made."""
    if config["zero_optimization"]["stage"] != 3:
        return nullcontext()
    init: AbstractContextManager[Any] = deepspeed.zero.Init(config_dict_or_path=config)
    return init


def build(model: GPT, config: dict[str, Any], *, warmup: int, decay_steps: int, place: Place) -> Zero:
    """Zero with a complete `config`, and our schedule where that has none. Collective; raises UserError."""
    schedule: Callable[[Optimizer], Any] | None = None
    if "scheduler" not in config:

        def schedule(optimizer: Optimizer) -> Any:
            return optimization.schedule(optimizer, warmup, decay_steps)

    try:
        engine, *_ = deepspeed.initialize(
            model=model,
            model_parameters=optimization.parameter_groups(model),
            config=config,
            lr_scheduler=schedule,
            dist_init_required=False,
        )
    except (AssertionError, AttributeError, TypeError, ValueError) as error:
        raise UserError(
            f"DeepSpeed cannot start with this ds_config: {type(error).__name__}: {error}",
            hint="mostly a setting that the optimizer or scheduler does not take",
        ) from error
    engine.train()
    return Zero(engine, place)


def require_nvme(config: dict[str, Any], place: Place) -> None:
    """Offload to NVMe needs an extension that DeepSpeed compiles: say so where it cannot. Collective."""
    zero = config["zero_optimization"]
    sections = [zero.get(name) or {} for name in ("offload_optimizer", "offload_param")]
    paths = [section.get("nvme_path") for section in sections if section.get("device") == "nvme"]
    problem = None
    if paths and not all(paths):
        problem = UserError(
            "offload to nvme needs a directory on a local disk of each host", hint="add --nvme_path DIR"
        )
    elif paths and not AsyncIOBuilder().is_compatible(verbose=False):
        problem = UserError(
            f"{place.host} cannot offload to nvme: DeepSpeed's async_io does not build here",
            hint="install libaio with its headers (libaio-dev) and a C++ compiler, or offload to cpu",
        )
    ranks.fail_together(problem)
