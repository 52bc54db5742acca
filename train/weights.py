"""The weights of a fine-tuning: loaded for the method that was asked for, saved, and proved to be there."""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import LoraConfig, get_peft_model
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from transformers.utils import cached_file

from errors import UserError, first_line

if TYPE_CHECKING:
    from ranks import Place

BASE = "base_model.json"
"""Beside an adapter, the shape of the model that it was trained on: peft itself asks for no such thing."""
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


class NothingLearned(Exception):
    """What was saved is empty, damaged, or what it was before."""


def no_model(model: str) -> tuple[str, str] | None:
    """Why what is a path, and no hub name, is no model, and a hint; None where it may be one."""
    path = Path(model).expanduser()
    if not path.exists() and (model.startswith((".", "/", "~")) or model.count("/") > 1):
        return (
            f"there is no {path}",
            "--model is a path that each host has that needs the model, or a hub name",
        )
    if path.is_dir() and not (path / "config.json").is_file():
        adapter = (path / "adapter_config.json").is_file()
        return (
            f"{path} is an adapter, no model" if adapter else f"{path} has no config.json",
            "--model is the directory of a whole model, as save_pretrained() writes it, or a hub name",
        )
    return None


def describe(model: str, place: Place) -> tuple[Any, Any]:
    """Config and tokenizer, which tell early what is wrong. Raises UserError for this rank."""
    if problem := no_model(model):
        raise UserError(f"{place.host}: {problem[0]}", hint=problem[1])
    try:
        config = AutoConfig.from_pretrained(model)
        tokenizer = AutoTokenizer.from_pretrained(model)
    except Exception as error:  # offline, the hub's client fails in unrelated ways
        raise UserError(
            f"{place.host}: no model can be read from {model}: {first_line(error)}",
            hint="--model is a directory that every host has, or a hub name in the cache of every host",
        ) from error
    size = getattr(config.get_text_config(), "vocab_size", None)
    if size is not None and len(tokenizer) > size:
        raise UserError(
            f"{model}: its tokenizer has {len(tokenizer):,} tokens, its model {size:,}",
            hint="they belong to different models: copy both from one place",
        )
    return config, tokenizer


def shape(config: Any) -> dict[str, Any]:
    """What has to be alike in models that an adapter is to fit."""
    text = config.get_text_config()
    names = ("model_type", "num_hidden_layers", "hidden_size", "vocab_size")
    return {name: getattr(text, name, None) for name in names}


def require_nf4(place: Place) -> None:
    """Raises UserError for this rank where bitsandbytes cannot quantise on its device: it is tried."""
    try:
        from bitsandbytes import functional

        weights = torch.linspace(-1, 1, 64 * 64, device=place.device).reshape(64, 64)
        packed, state = functional.quantize_4bit(weights, quant_type="nf4")
        error = (functional.dequantize_4bit(packed, state) - weights).abs().mean().item()
    except Exception as problem:  # no package, no library for the device, an instruction the CPU lacks
        raise UserError(
            f"{place.host}: bitsandbytes cannot quantise on its {place.device.type}: {first_line(problem)}",
            hint="--method lora needs no bitsandbytes; or pip install 'bitsandbytes>=0.49' on every host",
        ) from problem
    if not error < 0.1:
        version = importlib.metadata.version("bitsandbytes")
        raise UserError(
            f"{place.host}: bitsandbytes {version} quantises wrongly on its {place.device.type}",
            hint="--method lora needs no bitsandbytes; or install another version of it",
        )


def load(args: Any, *, dtype: str, stage: int | None, pad: int, place: Place) -> Any:
    """The model, ready to be trained by `args.method`; `stage` is None without DeepSpeed. Raises UserError.

    Under ZeRO-3 the caller's TrainingArguments exist already, and transformers shards while it loads.
    """
    compute = DTYPES[dtype]
    # Autocast of plain DDP wants the weights it updates in fp32; DeepSpeed keeps such a copy itself.
    resident = torch.float32 if args.method == "full" and stage is None else compute
    options: dict[str, Any] = {"dtype": resident}
    if args.method == "qlora":
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=compute,
            # ZeRO-3 shards what has the dtype of the model, and would copy anything else to every rank.
            bnb_4bit_quant_storage=compute if stage == 3 else torch.uint8,
        )
        if stage != 3:
            options["device_map"] = {"": place.device}
    try:
        model = AutoModelForCausalLM.from_pretrained(args.model, **options)
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(
            f"{place.host}: the weights of {args.model} cannot be loaded: {first_line(error)}",
            hint="copy the model again; --method full or lora if it is quantised already",
        ) from error
    for module in model.modules():
        if getattr(module, "support_avx512bf16_for_cpu", False):
            # Evaluation would repack the weights for another kernel, from which training cannot go on.
            module.support_avx512bf16_for_cpu = False
    model.config.pad_token_id = model.generation_config.pad_token_id = pad
    if args.method == "full":
        return model
    targets: Any = args.lora_targets.split(",")
    lora = LoraConfig(
        task_type="CAUSAL_LM",
        r=args.lora_rank,
        lora_alpha=args.lora_alpha,
        lora_dropout=args.lora_dropout,
        target_modules=targets[0] if targets == ["all-linear"] else targets,
    )
    # The new matrices are random, and the same under every strategy.
    torch.manual_seed(args.seed)
    try:
        return get_peft_model(model, lora)
    except ValueError as error:
        raise UserError(
            f"--lora_targets {args.lora_targets}: {first_line(error)}",
            hint="all-linear fits every model; or names of its layers, such as q_proj,v_proj",
        ) from error


def prove(directory: Path, original: str | None) -> str:
    """Open what was saved and say what is there; raises NothingLearned.

    An adapter has matrices that were zero before the first step; a whole model is compared with `original`.
    """
    kind = "adapter" if (directory / "adapter_config.json").is_file() else "model"
    tensors = numbers = 0
    changed = False
    before = _original(original) if kind == "model" and original else {}
    for name, tensor in _tensors(directory):
        if not tensor.numel():
            raise NothingLearned(f"{directory}: {name} of the saved {kind} is empty")
        if not math.isfinite(tensor.float().abs().sum().item()):
            raise NothingLearned(f"{directory}: {name} of the saved {kind} is not finite")
        tensors += 1
        numbers += tensor.numel()
        if not changed:
            changed = ("lora_B" in name and bool(tensor.any())) or _differs(before, name, tensor)
    if not tensors:
        raise NothingLearned(f"{directory}: the saved {kind} has no weights")
    if not changed and (kind == "adapter" or before):
        raise NothingLearned(f"{directory}: the saved {kind} is what it was before the first step")
    verdict = "finite and changed" if kind == "adapter" or before else "finite"
    return f"{kind} of {tensors:,} tensors, {numbers:,} numbers: opened again, {verdict}"


def _tensors(directory: Path) -> Iterator[tuple[str, torch.Tensor]]:
    for path in sorted(directory.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 (it is no dict)
                    yield name, file.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise NothingLearned(f"{path} cannot be opened: {error}") from error


def tensor_names(directory: Path) -> set[str]:
    names: set[str] = set()
    for path in directory.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            names.update(file.keys())
    return names


def _original(model: str) -> dict[str, Path]:
    """By name of a tensor the file that holds it, of a model that came as safetensors; else nothing."""
    for entry in ("model.safetensors.index.json", "model.safetensors"):
        found = cached_file(model, entry, local_files_only=True, _raise_exceptions_for_missing_entries=False)
        if found is None:
            continue
        files: dict[str, Path] = {}
        for path in Path(found).parent.glob("*.safetensors"):
            with safe_open(path, framework="pt") as file:
                files.update(dict.fromkeys(file.keys(), path))
        return files
    return {}


def _differs(before: dict[str, Path], name: str, now: torch.Tensor) -> bool:
    if name not in before:
        return False
    with safe_open(before[name], framework="pt") as file:
        return not torch.equal(file.get_tensor(name).to(now.dtype), now)
