"""The DeepSpeed configuration: read from a file, completed in memory from the arguments."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

from errors import UserError

CONFIGS = Path(__file__).resolve().parent / "configs"
DEFAULT_MICRO_BATCH = 4
DEFAULT_LR = 1e-3
DEFAULT_WEIGHT_DECAY = 0.1
NEVER = 10**9
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
        config = json.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text: {error.reason}", hint="save it as UTF-8") from error
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
    if not isinstance(config.get("optimizer", {}).get("params", {}), dict):
        raise UserError(f"{path}: params of the optimizer is no object", hint='write "params": {"lr": 1e-3}')
    return config


def complete(config: dict[str, Any], args: Namespace, *, on_cpu: bool, world_size: int) -> dict[str, Any]:
    """A copy of `config` with everything but the dtype settled: by the arguments, the file, the defaults.

    Raises UserError when the file fixes a global batch that this world size cannot produce.
    """
    scheduler_is_open = "auto" in json.dumps(config.get("scheduler"))
    config = _without_auto(config)
    if scheduler_is_open:
        config.pop("scheduler", None)
    for key, argument, default in (
        ("train_micro_batch_size_per_gpu", args.micro_batch, DEFAULT_MICRO_BATCH),
        ("gradient_accumulation_steps", args.gas, 1),
        ("gradient_clipping", None, 1.0),
        ("steps_per_print", None, NEVER),
    ):
        config[key] = _first(argument, config.get(key), default)
    _check_global_batch(config, world_size)
    zero = config.setdefault("zero_optimization", {})
    zero["stage"] = _first(args.zero_stage, zero.get("stage"), 2)
    optimizer = config.setdefault("optimizer", {})
    optimizer.setdefault("type", "AdamW")
    _set_optimizer(optimizer, args, offloaded="offload_optimizer" in zero, on_cpu=on_cpu)
    return config


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

    try:
        DeepSpeedConfig(config)
    except (AssertionError, ValueError, TypeError, DeepSpeedConfigError) as error:
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        detail = " ".join(str(error).split())
        raise UserError(
            f"DeepSpeed refuses the ds_config: {detail if len(detail) < 300 else first}",
            hint="correct that key; the files in configs/ work as they are",
        ) from error


def _without_auto(value: Any) -> Any:
    """A copy without the settings that say "auto", which only transformers understands."""
    if isinstance(value, dict):
        return {key: _without_auto(inner) for key, inner in value.items() if inner != "auto"}
    return [_without_auto(inner) for inner in value] if isinstance(value, list) else value


def _first(*choices: Any) -> Any:
    return next((choice for choice in choices if choice is not None), None)


def _check_global_batch(config: dict[str, Any], world_size: int) -> None:
    stated = config.pop("train_batch_size", None)
    micro, accumulate = config["train_micro_batch_size_per_gpu"], config["gradient_accumulation_steps"]
    for key in ("train_micro_batch_size_per_gpu", "gradient_accumulation_steps"):
        if not isinstance(config[key], int) or config[key] < 1:
            raise UserError(f"the ds_config has {key} = {config[key]!r}", hint="give a whole number above 0")
    real = micro * accumulate * world_size
    if stated not in (None, real):
        raise UserError(
            f"the ds_config has train_batch_size {stated}, but {micro} per rank x {accumulate} accumulated"
            f" x {world_size} ranks = {real}",
            hint="leave train_batch_size out: it changes with the number of ranks",
        )


def _set_optimizer(optimizer: dict[str, Any], args: Namespace, *, offloaded: bool, on_cpu: bool) -> None:
    params = optimizer.setdefault("params", {})
    params["lr"] = _first(args.lr, params.get("lr"), DEFAULT_LR)
    if optimizer["type"].lower() not in ("adam", "adamw"):
        return
    params["weight_decay"] = _first(args.weight_decay, params.get("weight_decay"), DEFAULT_WEIGHT_DECAY)
    params.setdefault("betas", [0.9, 0.95])
    params.setdefault("eps", 1e-8)
    # torch's own Adam: DeepSpeed's FusedAdam and CPUAdam would first be compiled on every host.
    if params.setdefault("torch_adam", True):
        params.setdefault("fused", not (on_cpu or offloaded))
