"""The number of parameters of each family, as transformers builds it on the meta device."""

from __future__ import annotations

from typing import Any

import pytest

from clusterctl.advise.fit.shapes import of_config, of_size
from clusterctl.errors import UsageError

_SMALL = {
    "hidden_size": 96,
    "intermediate_size": 200,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "vocab_size": 1000,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
_GPT2 = {"n_embd": 96, "n_layer": 3, "n_head": 6, "vocab_size": 1000, "n_positions": 64}
CASES: list[dict[str, Any]] = [
    {"model_type": "llama", **_SMALL},
    {"model_type": "llama", **_SMALL, "num_key_value_heads": 2, "tie_word_embeddings": True},
    {"model_type": "llama", **_SMALL, "attention_bias": True, "mlp_bias": True, "head_dim": 32},
    {"model_type": "mistral", **_SMALL, "num_key_value_heads": 2},
    {"model_type": "mixtral", **_SMALL, "num_key_value_heads": 2, "num_local_experts": 4},
    {"model_type": "qwen2", **_SMALL, "num_key_value_heads": 2},
    {"model_type": "qwen3", **_SMALL, "num_key_value_heads": 2},
    {"model_type": "qwen3", **_SMALL, "num_key_value_heads": 3, "tie_word_embeddings": True, "head_dim": 24},
    {"model_type": "gemma", **_SMALL, "num_key_value_heads": 1},
    {"model_type": "gemma2", **_SMALL, "num_key_value_heads": 2},
    {"model_type": "gemma3_text", **_SMALL, "num_key_value_heads": 2},
    {"model_type": "phi3", **_SMALL, "num_key_value_heads": 2},
    {"model_type": "phi", **_SMALL},
    {"model_type": "gpt2", **_GPT2},
    {"model_type": "gpt2", **_GPT2, "n_inner": 100, "tie_word_embeddings": False},
    {"model_type": "gpt_neox", **_SMALL},
    {"model_type": "opt", **_SMALL, "ffn_dim": 200},
    {"model_type": "opt", **_SMALL, "ffn_dim": 200, "word_embed_proj_dim": 48, "do_layer_norm_before": False},
    {"model_type": "falcon", **_SMALL},
    {"model_type": "falcon", **_SMALL, "new_decoder_architecture": True, "num_kv_heads": 2},
    {"model_type": "falcon", **_SMALL, "multi_query": False, "parallel_attn": False, "bias": True},
]


@pytest.fixture(scope="module")
def transformers() -> Any:
    return pytest.importorskip("transformers")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["model_type"])
def test_the_count_is_that_of_transformers(case: dict[str, Any], transformers: Any) -> None:
    import torch

    values = dict(case)
    config = transformers.AutoConfig.for_model(values.pop("model_type"), **values)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    expected = sum(each.numel() for each in model.parameters())
    assert of_config(config.to_dict()).parameters == expected, "of all keys, as save_pretrained writes them"
    assert of_config(case).parameters == expected, "of the keys that a person would write"
    if case["model_type"] != "mixtral":  # whose experts are one tensor, and no linear layer
        assert of_config(case).lora(8) == sum(
            8 * sum(module.weight.shape)
            for name, module in model.named_modules()
            if type(module).__name__ in ("Linear", "Conv1D", "FalconLinear")
            and any(part.isdecimal() for part in name.split("."))
        )


def test_known_models_have_their_size() -> None:
    llama2 = {
        "model_type": "llama",
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "vocab_size": 32000,
    }
    assert of_config(llama2).parameters == 6_738_415_616
    assert of_config(llama2).lora(8) == 19_988_480


def test_a_size_is_taken_as_it_is() -> None:
    for size in (125_000_000, 1_300_000_000, 7_000_000_000, 70_000_000_000):
        shape = of_size(size)
        assert shape.parameters == size and shape.assumed
        assert 0.5 < shape.in_linears / size < 1.1
    assert of_size(7_000_000_000).hidden in range(4000, 4400)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model_type": "mamba"}, "mamba"),
        ({}, "missing"),
        ({"model_type": "llama", **_SMALL, "num_attention_heads": 7}, "96 cannot be divided by 7"),
        ({"model_type": "llama", **_SMALL, "num_key_value_heads": 4}, "6 cannot be divided by 4"),
        ({"model_type": "gpt2", **_GPT2, "n_head": 5}, "96 cannot be divided by 5"),
        ({"model_type": "llama", "hidden_size": 8}, "num_hidden_layers"),
        ({"model_type": "llama", **_SMALL, "vocab_size": "many"}, "vocab_size"),
    ],
)
def test_what_is_not_known_is_said(config: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as told:
        of_config(config)
    assert said in told.value.message
