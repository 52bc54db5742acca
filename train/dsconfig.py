"""The DeepSpeed configuration: read from a file, completed in memory from the arguments."""

from __future__ import annotations

import difflib
import json
import math
from argparse import Namespace
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import batch
import scheduler
from errors import UserError

CONFIGS = Path(__file__).resolve().parent / "configs"
DEFAULT_LR = 1e-3
DEFAULT_WEIGHT_DECAY = 0.1
ADAMS = ("adam", "adamw")
NEVER = 10**9
# Read by DeepSpeed elsewhere, after its configuration is made.
OURS = {"optimizer", "scheduler", "zero_optimization", "checkpoint"}
# Of these DeepSpeed asks key by key, and ignores the others.
LOOSE = {"aio", "autotuning", "checkpoint", "data_types", "flops_profiler", "torch_autocast"}
SECTIONS = {
    "zero_optimization": '{"stage": 2}',
    "optimizer": '{"type": "AdamW"}',
    "scheduler": '{"type": "WarmupLR"}',
    "bf16": '{"enabled": true}',
    "fp16": '{"enabled": true}',
}


def read(name: str) -> dict[str, Any]:
    """The settings in the file `name`, or in `configs/<name>.json`. Raises UserError."""
    path = Path(name)
    if not path.exists() and path.name == name:
        path = CONFIGS / f"{name.removesuffix('.json')}.json"
    if not path.is_file():
        shipped = ", ".join(sorted(config.stem for config in CONFIGS.glob("*.json")))
        raise UserError(f"there is no ds_config {name}", hint=f"give a JSON file, or one of {shipped}")
    try:
        config = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_without_doubles)
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text: {error.reason}", hint="save it as UTF-8") from error
    except OSError as error:
        raise UserError(
            f"{path} cannot be read: {error.strerror}", hint="give another --ds_config"
        ) from error
    except _DoubleKey as error:
        raise UserError(
            f"{path} has the key {error} twice in one object", hint="keep one: JSON would drop the other"
        ) from error
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path} line {error.lineno}: not JSON: {error.msg}",
            hint="JSON has no comments and no comma before a closing bracket",
        ) from error
    if not isinstance(config, dict):
        raise UserError(f"{path} holds no JSON object", hint="a ds_config starts with { and ends with }")
    config = {key: value for key, value in config.items() if key not in SECTIONS or value != "auto"}
    for section, example in SECTIONS.items():
        if not isinstance(config.get(section, {}), dict):
            raise UserError(f"{path}: {section} is no object", hint=f'write "{section}": {example}')
        if not isinstance(config.get(section, {}).get("params", {}), dict):
            raise UserError(f"{path}: params of {section} is no object", hint='write "params": {}')
    for section in ("offload_optimizer", "offload_param"):
        if not isinstance(config.get("zero_optimization", {}).get(section, {}), dict):
            raise UserError(f"{path}: {section} is no object", hint='write "device": "cpu" into it')
    if not isinstance(config.get("optimizer", {}).get("type", ""), str):
        raise UserError(f"{path}: the type of the optimizer is no name", hint='write "type": "AdamW"')
    return config


def complete(config: dict[str, Any], args: Namespace, *, world_size: int) -> dict[str, Any]:
    """A copy of `config` with everything but the dtype settled: by the arguments, the file, the defaults.

    Raises UserError for what cannot be had here, and for what would be ignored.
    """
    schedule = config.get("scheduler")
    config = _without_auto(config)
    config[batch.MICRO], config[batch.PASSES] = batch.settle(
        config, args.micro_batch, args.gas, world_size=world_size
    )
    config.pop(batch.TOTAL, None)
    config["gradient_clipping"] = _first(args.grad_clip, config.get("gradient_clipping"), 1.0)
    config.setdefault("steps_per_print", NEVER)
    zero = config.setdefault("zero_optimization", {})
    zero["stage"] = _first(args.zero_stage, zero.get("stage"), 2)
    _refuse_idle_settings(config, zero)
    _set_nvme_path(zero, args.nvme_path)
    optimizer = config.setdefault("optimizer", {})
    _set_optimizer_type(optimizer, args.optimizer)
    _set_optimizer(optimizer, args)
    if optimizer["type"].lower() not in ADAMS:
        # DeepSpeed wants to be told that one knows: writing the name is knowing.
        config.setdefault("zero_allow_untested_optimizer", True)
    if schedule is not None:
        config["scheduler"] = scheduler.complete(schedule, args, optimizer["params"]["lr"])
    return config


def set_sizes(config: dict[str, Any], *, on_cpu: bool) -> None:
    """Write sizes of buffers, in elements, where `config` has none: DeepSpeed's are for billions."""
    zero = config["zero_optimization"]
    bucket = 5_000_000 if on_cpu else 50_000_000
    if zero["stage"] in (1, 2):
        zero.setdefault("allgather_bucket_size", bucket)
    if zero["stage"] == 3:
        zero.setdefault("stage3_prefetch_bucket_size", bucket)
    if zero["stage"]:
        zero.setdefault("reduce_bucket_size", bucket)


def set_dtype(config: dict[str, Any], dtype: str) -> None:
    """Write the chosen precision into `config`, keeping the other settings of its fp16 and bf16 sections."""
    for section in ("bf16", "fp16"):
        config.setdefault(section, {})["enabled"] = dtype == section


def requested_dtype(config: dict[str, Any], dtype: str) -> str:
    """What the user wants: the argument, else the file's own enabled section, else auto."""
    if dtype != "auto":
        return dtype
    asked = [section for section in ("bf16", "fp16") if config.get(section, {}).get("enabled") is True]
    if len(asked) == 2:
        raise UserError("the ds_config enables both bf16 and fp16", hint="keep one of them, or give --dtype")
    return asked[0] if asked else "auto"


def validate(config: dict[str, Any]) -> None:
    """Let DeepSpeed itself read `config`; its objections become a UserError."""
    from deepspeed.runtime.config import DeepSpeedConfig, DeepSpeedConfigError
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig
    from pydantic import ValidationError

    for section in config.keys() & LOOSE:
        if not isinstance(config[section], dict):
            raise UserError(f"{section} of the ds_config is no object", hint=f'write "{section}": {{}}')
    read = _Asked(config)
    try:
        DeepSpeedConfig(read)
    except ValidationError as error:
        wrong = error.errors(include_url=False)[0]
        key = ".".join(map(str, wrong["loc"]))
        if wrong["type"] == "extra_forbidden":
            fields = DeepSpeedZeroConfig.model_fields
            raise _unknown(key, {field.alias or name for name, field in fields.items()}) from error
        raise UserError(
            f"DeepSpeed refuses the ds_config: {key or error.title}: {wrong['msg']}", hint="correct that key"
        ) from error
    except (AssertionError, ValueError, TypeError, DeepSpeedConfigError) as error:
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        detail = " ".join(str(error).split())
        raise UserError(
            f"DeepSpeed refuses the ds_config: {detail if len(detail) < 300 else first}",
            hint="correct that key; the files in configs/ work as they are",
        ) from error
    for key in config.keys() - read.asked - OURS:
        raise _unknown(key, read.asked | OURS)
    for section in config.keys() & LOOSE:
        for key in config[section].keys() - read[section].asked:
            raise _unknown(f"{section}.{key}", {f"{section}.{known}" for known in read[section].asked})


def _unknown(key: str, known: Iterable[str]) -> UserError:
    close = difflib.get_close_matches(key, known, n=1)
    return UserError(
        f"DeepSpeed knows no setting {key}, which the ds_config has",
        hint=f"write {close[0]}" if close else "leave it out: DeepSpeed would not heed it",
    )


def _without_auto(value: Any) -> Any:
    """A copy without the settings that say "auto", which only transformers understands."""
    if isinstance(value, dict):
        return {key: _without_auto(inner) for key, inner in value.items() if inner != "auto"}
    return [_without_auto(inner) for inner in value] if isinstance(value, list) else value


def _first(*choices: Any) -> Any:
    return next((choice for choice in choices if choice is not None), None)


class _DoubleKey(Exception):
    pass


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _DoubleKey(key)
        found[key] = value
    return found


class _Asked(dict[str, Any]):
    """Settings that remember which of them, and which others, were asked for: the rest is ignored."""

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__({k: _Asked(v) if isinstance(v, dict) else v for k, v in settings.items()})
        self.asked: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        self.asked.add(key)
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self.asked.add(str(key))
        return super().__contains__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self.asked.add(key)
        return super().get(key, default)

    def keys(self) -> Any:
        return self


def _refuse_idle_settings(config: dict[str, Any], zero: dict[str, Any]) -> None:
    """DeepSpeed reads these and does nothing."""
    stage = zero["stage"]
    for section, stages in (("offload_optimizer", (1, 2, 3)), ("offload_param", (3,))):
        device = (zero.get(section) or {}).get("device", "none")
        if device == "nvme" and stage != 3:
            raise UserError(
                f"{section} to nvme needs ZeRO stage 3, this is stage {stage}", hint="--zero_stage 3"
            )
        if device != "none" and stage not in stages:
            raise UserError(
                f"{section} has no effect in ZeRO stage {stage}",
                hint=f"leave it out, or take --zero_stage {' or '.join(map(str, stages))}",
            )
    if any((config.get("activation_checkpointing") or {}).values()):
        raise UserError(
            "activation_checkpointing of the ds_config has no effect on this model",
            hint="leave it out, and give --activation_checkpointing",
        )


def _set_nvme_path(zero: dict[str, Any], path: str | None) -> None:
    if path is None:
        return
    sections = [zero.get(name) or {} for name in ("offload_optimizer", "offload_param")]
    to_nvme = [section for section in sections if section.get("device") == "nvme"]
    if not to_nvme:
        raise UserError("--nvme_path, but nothing is offloaded to nvme", hint="add --strategy zero3-nvme")
    for section in to_nvme:
        section["nvme_path"] = path


def _set_optimizer_type(optimizer: dict[str, Any], asked: str | None) -> None:
    stated = optimizer.get("type")
    if asked is None:
        optimizer.setdefault("type", "AdamW")
    elif stated and stated.lower() != asked:
        raise UserError(
            f"--optimizer is {asked}, and the ds_config has {stated}", hint="leave one of them out"
        )
    else:
        optimizer["type"] = stated or {"adamw": "AdamW", "sgd": "SGD"}[asked]
        if asked == "sgd":
            optimizer.setdefault("params", {}).setdefault("momentum", 0.9)


def _set_optimizer(optimizer: dict[str, Any], args: Namespace) -> None:
    params = optimizer.setdefault("params", {})
    params["lr"] = _first(args.lr, params.get("lr"), DEFAULT_LR)
    for name in ("lr", "weight_decay"):
        value = params.get(name, 1.0)
        if type(value) not in (int, float) or not math.isfinite(value) or value < 0:
            raise UserError(f"the ds_config has {name} {value!r}", hint="give a number, such as 3e-4")
    if optimizer["type"].lower() not in ADAMS:
        if args.weight_decay is not None:
            params["weight_decay"] = args.weight_decay
        return
    params["weight_decay"] = _first(args.weight_decay, params.get("weight_decay"), DEFAULT_WEIGHT_DECAY)
    params.setdefault("betas", [0.9, 0.95])
    params.setdefault("eps", 1e-8)
    # torch's own Adam: DeepSpeed's FusedAdam and CPUAdam would first be compiled on every host.
    if params.setdefault("torch_adam", True):
        params.setdefault("fused", True)
