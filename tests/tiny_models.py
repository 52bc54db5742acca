"""A language model and its tokenizer, made here in a second: for tests of fine-tuning."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

END = "<|end|>"
CHATML = (
    "{% for m in messages %}{{ '<' + m['role'] + '>' + m['content'] + '<|end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)


def tokenizer(template: str | None = None) -> Any:
    """Every byte is a token, and a few words are."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    inner.train_from_iterator(
        ["the answer to question number"] * 3,
        trainers.BpeTrainer(
            vocab_size=300, special_tokens=[END], initial_alphabet=alphabet, show_progress=False
        ),
    )
    made = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token=END)
    made.chat_template = template
    return made


def save_model(directory: Path, template: str | None = None) -> Path:
    """A directory as `save_pretrained` writes it: two layers of width 64, random weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    words = tokenizer(template)
    torch.manual_seed(7)
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=256,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.eos_token_id,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(directory)
    words.save_pretrained(directory)
    return directory


def save_pairs(path: Path, count: int = 40) -> Path:
    pairs = ({"prompt": f"question number {n}", "response": f"the answer {n * 2}"} for n in range(count))
    path.write_text("".join(json.dumps(pair) + "\n" for pair in pairs), encoding="utf-8")
    return path
