"""A model that answers: base and adapter loaded together, or merged into one directory."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import PeftModel, get_peft_model_state_dict
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, TextStreamer

import chat
from errors import UserError, first_line
from weights import BASE, DTYPES, NothingLearned, no_model, prove, shape, tensor_names


class _Pieces(TextStreamer):  # type: ignore[misc]
    def __init__(self, tokenizer: Any, say: Callable[[str], None]) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self.say = say
        self.text = ""

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        self.text += text
        self.say(text)


class Model:
    """Raises UserError where the parts cannot be loaded or do not belong together."""

    def __init__(self, args: Any) -> None:
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
        self.args = args
        self.adapter = _adapter(args.adapter) if args.adapter else None
        self.base = args.model or _base_of(self.adapter)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        if problem := no_model(self.base):
            named = "" if args.model else f", which {self.adapter} names"
            raise UserError(problem[0] + named, hint=problem[1])
        source = (
            self.adapter if self.adapter and (self.adapter / "tokenizer_config.json").is_file() else self.base
        )
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(str(source))
        except (OSError, ValueError) as error:
            raise UserError(
                f"no tokenizer can be read from {source}: {first_line(error)}",
                hint="copy it from where the model came from: tokenizer.json, tokenizer_config.json",
            ) from error
        try:
            self.model = AutoModelForCausalLM.from_pretrained(self.base, dtype=self._dtype())
        except (OSError, ValueError, SafetensorError) as error:
            raise UserError(
                f"no model can be read from {self.base}: {first_line(error)}",
                hint="--model is the directory, or the hub name, of the model that was fine-tuned",
            ) from error
        if self.adapter:
            try:
                self.model = PeftModel.from_pretrained(self.model, str(self.adapter))
                _require_fit(self.model, self.adapter)
            except SafetensorError as error:
                raise UserError(
                    f"the adapter {self.adapter} cannot be read: {error}", hint="copy it again"
                ) from error
            except (OSError, ValueError, RuntimeError) as error:
                raise UserError(
                    f"the adapter {self.adapter} does not fit {self.base}: {first_line(error)}",
                    hint="--model is the model that it was trained on",
                ) from error
        self.model.to(self.device).eval()
        chat.prepare(self.tokenizer)

    def answer(self, messages: Sequence[dict[str, str]], say: Callable[[str], None]) -> str:
        """The assistant's answer to the conversation; `say` gets its pieces as they come."""
        torch.manual_seed(self.args.seed)
        text = chat.prompt_text(self.tokenizer, messages)
        prompt = self.tokenizer(text, add_special_tokens=False, return_tensors="pt").to(self.device)
        options: dict[str, Any] = {"do_sample": False}
        if self.args.temperature:
            options = {"do_sample": True, "temperature": self.args.temperature, "top_p": self.args.top_p}
        pieces = _Pieces(self.tokenizer, say)
        with torch.inference_mode():
            self.model.generate(
                **prompt,
                **options,
                generation_config=_generation(self.model, self.tokenizer),
                max_new_tokens=self.args.max_new_tokens,
                streamer=pieces,
            )
        return pieces.text

    def merge(self, directory: Path) -> str:
        """Write one model that needs no peft: weights, config, tokenizer, template. Raises UserError."""
        if directory.is_file() or (directory.exists() and any(directory.iterdir())):
            raise UserError(f"{directory} is not an empty directory", hint="give another one for --merge")
        generation = _generation(self.model, self.tokenizer)
        whole = self.model.merge_and_unload() if self.adapter else self.model
        whole.generation_config = generation
        whole.config.use_cache = True
        whole.save_pretrained(directory)
        self.tokenizer.save_pretrained(directory)
        try:
            found = prove(directory, self.base if self.adapter else None)
        except NothingLearned as error:
            raise UserError(
                f"{error}", hint="the adapter changes nothing at this --dtype; try fp32"
            ) from error
        self.model = whole
        self.adapter = None
        return f"merged {directory}: {found}"

    def _dtype(self) -> Any:
        if self.args.dtype != "auto":
            return DTYPES[self.args.dtype]
        # What the files hold; a CPU without bf16 units is faster in fp32, and exports what it was given.
        return "auto" if self.device == "cuda" or self.args.merge else torch.float32


def _adapter(directory: str) -> Path:
    path = Path(directory).expanduser()
    if not (path / "adapter_config.json").is_file():
        whole = (path / "config.json").is_file()
        raise UserError(
            f"{path} is a whole model, no adapter" if whole else f"{path} holds no adapter",
            hint=f"--model {path}"
            if whole
            else "--adapter is the --save_dir of sft.py --method lora or qlora",
        )
    return path


def _require_fit(model: Any, adapter: Path) -> None:
    """Raises ValueError where the adapter is another model's: peft leaves out what finds no layer."""
    recorded = adapter / BASE
    trained = json.loads(recorded.read_text(encoding="utf-8")) if recorded.is_file() else {}
    for name, value in shape(model.config).items():
        if trained.get(name, value) != value:
            raise ValueError(f"its model had {name} {trained[name]}, this one has {value}")
    there = {
        name for name in get_peft_model_state_dict(model, save_embedding_layers=False) if "lora_" in name
    }
    saved = {name for name in tensor_names(adapter) if "lora_" in name}
    if saved and saved != there:
        raise ValueError(f"{len(saved):,} matrices, and the model has layers for {len(there):,}")


def _base_of(adapter: Path | None) -> str:
    try:
        found = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8")) if adapter else {}
    except ValueError as error:
        raise UserError(f"{adapter}/adapter_config.json is no JSON: {error}", hint="copy it again") from error
    base = str(found.get("base_model_name_or_path") or "")
    if not base:
        raise UserError(f"{adapter} does not name its model", hint="--model DIR")
    return base


def _generation(model: Any, tokenizer: Any) -> GenerationConfig:
    """The model's own, ending at the tokenizer's end as well: that is what was learned."""
    config = GenerationConfig.from_dict(model.generation_config.to_dict())
    ends = config.eos_token_id
    known = ends if isinstance(ends, list) else [ends] if ends is not None else []
    wanted = list(dict.fromkeys([*known, tokenizer.eos_token_id]))
    config.eos_token_id = wanted if wanted[1:] else wanted[0]
    config.pad_token_id = tokenizer.pad_token_id
    return config
