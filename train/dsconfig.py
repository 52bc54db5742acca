"""The DeepSpeed configuration: read from a file, completed in memory from the arguments."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

from errors import UserError

CONFIGS = Path(__file__).resolve().parent / "configs"
DEFAULT_MICRO_BATCH = 4
NEVER = 10**9


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
    if not isinstance(config.get("zero_optimization", {}), dict):
        raise UserError(
            f"{path}: zero_optimization is no object", hint='write "zero_optimization": {"stage": 2}'
        )
    return config


def complete(config: dict[str, Any], args: Namespace, *, on_cpu: bool, world_size: int) -> dict[str, Any]:
    """A copy of `config` in which everything but the dtype is settled: arguments first, then the file.

    Raises UserError when the file fixes a global batch that this world size cannot produce.
    """
    config = json.loads(json.dumps(config))
    config["train_micro_batch_size_per_gpu"] = _settled(
        config, "train_micro_batch_size_per_gpu", args.micro_batch, DEFAULT_MICRO_BATCH
    )
    config["gradient_accumulation_steps"] = _settled(config, "gradient_accumulation_steps", args.gas, 1)
    config["gradient_clipping"] = _settled(config, "gradient_clipping", None, 1.0)
    config.setdefault("steps_per_print", NEVER)
    _check_global_batch(config, world_size)

    zero = config.setdefault("zero_optimization", {})
    if args.zero_stage is not None:
        zero["stage"] = args.zero_stage
    config.setdefault("optimizer", {"type": "AdamW", "params": _adamw(args, zero, on_cpu=on_cpu)})
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


def _settled(config: dict[str, Any], key: str, argument: int | None, default: float) -> Any:
    if argument is not None:
        return argument
    value = config.get(key, "auto")
    return default if value == "auto" else value


def _check_global_batch(config: dict[str, Any], world_size: int) -> None:
    stated = config.pop("train_batch_size", "auto")
    micro, accumulate = config["train_micro_batch_size_per_gpu"], config["gradient_accumulation_steps"]
    for key in ("train_micro_batch_size_per_gpu", "gradient_accumulation_steps"):
        if not isinstance(config[key], int) or config[key] < 1:
            raise UserError(f"the ds_config has {key} = {config[key]!r}", hint="give a whole number above 0")
    real = micro * accumulate * world_size
    if stated not in ("auto", real):
        raise UserError(
            f"the ds_config has train_batch_size {stated}, but {micro} per rank x {accumulate} accumulated"
            f" x {world_size} ranks = {real}",
            hint="leave train_batch_size out: it changes with the number of ranks",
        )


def _adamw(args: Namespace, zero: dict[str, Any], *, on_cpu: bool) -> dict[str, Any]:
    # torch's own AdamW: DeepSpeed's FusedAdam and CPUAdam would be compiled on every host first.
    offloaded = (zero.get("offload_optimizer") or {}).get("device", "none") != "none"
    return {
        "lr": args.lr,
        "betas": [0.9, 0.95],
        "eps": 1e-8,
        "weight_decay": args.weight_decay,
        "torch_adam": True,
        "fused": not (on_cpu or offloaded),
    }
