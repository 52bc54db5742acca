"""The model as a directory that transformers and vLLM load as GPT-2: `python export.py CHECKPOINT DIR`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

import tokenizing
from checkpoint import NAME, RECORD, step_of
from ddp import STATE
from errors import EXIT_USAGE, UserError
from model import GPTShape
from ranks import Place, fail_together

# What GPT-2 calls the parts of a block, and which of them are matrices.
PARTS = {
    "attention_norm": ("ln_1", False),
    "attention.qkv": ("attn.c_attn", True),
    "attention.proj": ("attn.c_proj", True),
    "mlp_norm": ("ln_2", False),
    "mlp.up": ("mlp.c_fc", True),
    "mlp.proj": ("mlp.c_proj", True),
}


def write(weights: dict[str, Tensor], shape: GPTShape, tokenizer_name: str, directory: Path) -> None:
    """Weights, configuration and tokenizer, each in a file of the name that transformers expects."""
    from safetensors.torch import save_file

    directory.mkdir(parents=True, exist_ok=True)
    tokenizer = tokenizing.load_tokenizer(tokenizer_name)
    words = tokenizer.get_vocab_size()
    tensors = {name: value.contiguous() for name, value in as_gpt2(weights, shape, words)}
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    end = next((word for word in tokenizing.END_TOKENS if tokenizer.token_to_id(word) is not None), None)
    end_id = tokenizer.token_to_id(end) if end else None
    config = {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": words,
        "n_positions": shape.seq_len,
        "n_embd": shape.d_model,
        "n_layer": shape.n_layer,
        "n_head": shape.n_head,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "tie_word_embeddings": True,
        "resid_pdrop": shape.dropout,
        "embd_pdrop": shape.dropout,
        "attn_pdrop": shape.dropout,
        "bos_token_id": end_id,
        "eos_token_id": end_id,
        "torch_dtype": str(next(iter(tensors.values())).dtype).removeprefix("torch."),
    }
    _json(directory / "config.json", config)
    tokenizer.save(str(directory / "tokenizer.json"))
    about = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": shape.seq_len}
    _json(directory / "tokenizer_config.json", {**about, **({"eos_token": end} if end else {})})


def write_together(
    weights: dict[str, Tensor], shape: GPTShape, tokenizer_name: str, directory: Path, place: Place
) -> None:
    """`write` on the first rank. Collective; raises UserError on all ranks."""
    problem = None
    if place.is_first:
        try:
            write(weights, shape, tokenizer_name, directory)
        except OSError as error:
            message = f"{place.host} cannot write {directory}: {error.strerror}"
            problem = UserError(message, hint="give another --export")
        except UserError as error:
            problem = error
    fail_together(problem)


def as_gpt2(weights: dict[str, Tensor], shape: GPTShape, words: int) -> Iterator[tuple[str, Tensor]]:
    """The parameters as GPT-2 names and lays them out, without the vocabulary's padding.

    Its matrices stand transposed, and have biases: zero, as ours have none. The head is the embedding.
    """
    yield "transformer.wte.weight", weights["embedding.weight"][:words]
    yield "transformer.wpe.weight", weights["positions.weight"]
    for layer in range(shape.n_layer):
        for part, (name, is_matrix) in PARTS.items():
            ours, theirs = f"blocks.{layer}.{part}", f"transformer.h.{layer}.{name}"
            weight = weights[f"{ours}.weight"]
            yield f"{theirs}.weight", weight.T if is_matrix else weight
            yield f"{theirs}.bias", weight.new_zeros(len(weight)) if is_matrix else weights[f"{ours}.bias"]
    yield "transformer.ln_f.weight", weights["norm.weight"]
    yield "transformer.ln_f.bias", weights["norm.bias"]


def _json(path: Path, value: dict[str, object]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def main(argv: list[str]) -> int:
    """Exit code: 0 when DIR was written, 64 for a mistake in the request."""
    try:
        if len(argv) != 2:
            raise UserError("which checkpoint, and where to?", hint="python export.py CHECKPOINT DIR")
        path = _checkpoint(Path(argv[0]))
        record = json.loads((path / RECORD).read_text(encoding="utf-8"))
        names = ("vocab_size", "seq_len", "n_layer", "d_model", "n_head", "dropout")
        shape = GPTShape(**{name: record[name] for name in names})
        write(_weights(path, record), shape, record["tokenizer"], Path(argv[1]))
    except (OSError, ValueError, KeyError) as error:
        print(f"export.py: {argv[0]} cannot be exported: {error!r}", file=sys.stderr)
        print(
            "hint: give a step-... directory of pretrain.py, with the files of all its ranks", file=sys.stderr
        )
        return EXIT_USAGE
    except UserError as error:
        print(f"export.py: {error}", file=sys.stderr)
        return EXIT_USAGE
    print(f"exported {path} to {argv[1]}")
    return 0


def _checkpoint(where: Path) -> Path:
    """`where` itself, or the newest checkpoint in it, which DIR/latest names too."""
    if NAME.fullmatch(where.name):
        return where
    root = where.parent if where.name == "latest" else where
    found = [file.parent for file in root.glob(f"*/{RECORD}") if NAME.fullmatch(file.parent.name)]
    if not found:
        raise UserError(f"{root} holds no whole checkpoint", hint="give a --save_dir, or a step-... in it")
    return max(found, key=lambda path: step_of(path.name))


def _weights(path: Path, record: dict[str, object]) -> dict[str, Tensor]:
    missing = [name for name in record["files"] if not (path / name).exists()]  # type: ignore[attr-defined]
    if missing:
        raise UserError(
            f"{path} lacks {missing[0]}, which is on another host",
            hint="bring the files of all hosts together",
        )
    if record["engine"] == "ddp":
        state = torch.load(path / STATE, map_location="cpu", weights_only=True)
        weights: dict[str, Tensor] = state["model"]
        return weights
    if record["engine"] == "zero0":
        # Written by us, and by DeepSpeed only to be unpickled.
        state = torch.load(path / "mp_rank_00_model_states.pt", map_location="cpu", weights_only=False)
        return {name: value.float() for name, value in state["module"].items()}
    from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

    consolidated: dict[str, Tensor] = get_fp32_state_dict_from_zero_checkpoint(str(path.parent), path.name)
    return consolidated


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
