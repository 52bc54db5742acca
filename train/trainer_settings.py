"""The Trainer's arguments: from the command line, and from what a DeepSpeed file of the user's fixes."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from transformers import TrainingArguments

from errors import UserError
from ranks import Place


def make(
    args: Any,
    config: Any,
    place: Place,
    *,
    conversations: int,
    evaluates: bool,
    dtype: str,
    save_dir: Path,
    node_local: bool,
) -> TrainingArguments:
    """What the Trainer is told for a model with `config`. Raises UserError for this rank.

    A fixed value in --deepspeed FILE holds, and contradicts no argument.
    """
    file = _read(args.deepspeed) if args.deepspeed else {}
    if file and node_local:
        # Else only the first host gets what all ranks resume from.
        file["checkpoint"] = {**(file.get("checkpoint") or {}), "use_node_local_storage": True}
    micro = _agreed(args, "micro_batch", file, ("train_micro_batch_size_per_gpu",), 4)
    gas = _agreed(args, "gas", file, ("gradient_accumulation_steps",), 1)
    lr = 2e-5 if args.method == "full" else 2e-4
    lr = _agreed(args, "lr", file, ("optimizer", "params", "lr"), lr)
    per_epoch = -(-conversations // (micro * gas * place.world_size))
    steps = args.steps or max(1, round(args.epochs * per_epoch))
    try:
        settings = TrainingArguments(
            output_dir=str(save_dir),
            deepspeed=file or None,
            use_cpu=place.on_cpu,
            bf16=dtype == "bf16",
            fp16=dtype == "fp16",
            per_device_train_batch_size=micro,
            per_device_eval_batch_size=micro,
            gradient_accumulation_steps=gas,
            max_steps=steps,
            learning_rate=lr,
            lr_scheduler_type="cosine",
            warmup_steps=int(
                _agreed(args, "warmup", file, ("scheduler", "params", "warmup_num_steps"), int(0.03 * steps))
            ),
            weight_decay=_agreed(args, "weight_decay", file, ("optimizer", "params", "weight_decay"), 0.0),
            max_grad_norm=file.get("gradient_clipping") if _fixed(file.get("gradient_clipping")) else 1.0,
            gradient_checkpointing=args.gradient_checkpointing,
            gradient_checkpointing_kwargs={"use_reentrant": False} if args.gradient_checkpointing else None,
            eval_strategy="steps" if evaluates and args.eval_every else "no",
            eval_steps=args.eval_every or None,
            save_strategy="steps" if args.save_every else "no",
            save_steps=args.save_every or 500,
            save_on_each_node=node_local,
            logging_steps=1,
            logging_nan_inf_filter=False,
            include_num_input_tokens_seen="non_padding",
            seed=args.seed,
            dataloader_pin_memory=not place.on_cpu,
            remove_unused_columns=False,
            ddp_find_unused_parameters=False,
            disable_tqdm=True,
            log_level="error",
            log_level_replica="error",
            report_to="none",
        )
        if (deepspeed := getattr(settings, "hf_deepspeed_config", None)) is not None:
            # What contradicts would otherwise be said after the model was loaded. On a copy: it fills in.
            copy.deepcopy(deepspeed).trainer_config_finalize(settings, SimpleNamespace(config=config), steps)
    except ValueError as error:
        raise UserError(
            f"{args.deepspeed}: {' '.join(str(error).split())}",
            hint='write "auto" there, or give the same value',
        ) from error
    zero = file.get("zero_optimization", {})
    if (
        args.method == "full"
        and zero.get("stage") == 3
        and not zero.get("stage3_gather_16bit_weights_on_model_save")
    ):
        raise UserError(
            f"{args.deepspeed} would save no model: stage 3 leaves it in shards",
            hint='"zero_optimization": {"stage3_gather_16bit_weights_on_model_save": true}',
        )
    return settings


def _read(file: str) -> dict[str, Any]:
    try:
        found = json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"--deepspeed {file} cannot be read: {error}",
            hint="JSON without comments, as transformers wants it",
        ) from error
    if not isinstance(found, dict):
        raise UserError(f"--deepspeed {file} is no object", hint="it begins with {")
    return found


def _fixed(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _agreed(args: Any, name: str, file: dict[str, Any], keys: tuple[str, ...], default: Any) -> Any:
    """The argument, or what the file fixes under `keys`, or the default."""
    value: Any = file
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    given = getattr(args, name)
    if not _fixed(value):
        return default if given is None else given
    if given is not None and given != value:
        raise UserError(
            f"--{name} is {given:g}, and {args.deepspeed} says {'.'.join(keys)} {value:g}",
            hint=f'leave out --{name}, or write "auto" there',
        )
    return value


def stage(settings: TrainingArguments) -> int | None:
    """ZeRO's stage, None without DeepSpeed."""
    if not settings.deepspeed:
        return None
    return int(settings.deepspeed.get("zero_optimization", {}).get("stage", 0))
