"""A transformer's shape and its exact number of parameters, from the keys of a Hugging Face config.json."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from clusterctl.errors import UsageError


class Linear(msgspec.Struct, frozen=True):
    """``count`` equal matrices of one layer; of ``experts`` a token passes only some (``used``)."""

    inputs: int
    outputs: int
    count: int = 1
    used: int | None = None

    @property
    def parameters(self) -> int:
        return self.inputs * self.outputs * self.count


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """What the formulas need to know of a model; ``parameters`` counts tied weights once, as PyTorch does."""

    family: str
    parameters: int
    layers: int
    hidden: int
    ffn: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    linears: tuple[Linear, ...]
    """Of one layer: what LoRA adapts and NF4 quantizes."""
    largest_layer: int
    """Parameters of the largest of: one layer, the embedding."""
    tied: bool = False
    """The embedding is the head as well."""
    gated: bool = True
    """The MLP has a gate beside its up projection."""
    rms_norm: bool = True
    norms: int = 2
    """Of one layer."""
    qk_norm: bool = False
    """Queries and keys are normalized, too."""
    assumed: bool = False
    """Only the number of parameters was given."""
    limit: int | None = None
    """The longest sequence that the model was made for."""

    @property
    def active_experts(self) -> int:
        """How many MLPs a token passes in one layer; 0 where there is one and no choice."""
        return max((each.used or 0 for each in self.linears), default=0)

    def lora(self, rank: int) -> int:
        """Trainable parameters of adapters of ``rank`` at every linear layer of every block: r (in + out) for
        each matrix (Hu et al., arXiv 2106.09685, section 4.1)."""
        return self.layers * sum(rank * (each.inputs + each.outputs) * each.count for each in self.linears)

    @property
    def in_linears(self) -> int:
        """Parameters of the linear layers of all blocks."""
        return self.layers * sum(each.parameters for each in self.linears)


_HEADS = "a width that its heads do not divide"


class _Keys:
    """The values of a config.json, each whole number checked."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config

    def number(self, name: str, default: int | None = None) -> int:
        value = self._config.get(name)
        if value is None:
            value = default
        if value is None:
            raise UsageError(f"the model's config has no {name}", hint="give --params 7B instead of a model")
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise UsageError(f"the model's config has {name} = {value!r}", hint="a whole number above 0")
        return value

    def divided(self, whole: int, parts: int, what: str) -> int:
        if whole % parts:
            raise UsageError(
                f"the model's config has {what}: {whole} cannot be divided by {parts}",
                hint="such a model cannot be built; correct the config",
            )
        return whole // parts

    def has(self, name: str) -> bool:
        return self._config.get(name) is not None

    def flag(self, name: str, default: bool) -> bool:
        value = self._config.get(name)
        return default if value is None else bool(value)


class UnknownFamilyError(UsageError):
    """A model_type that has no formulas here."""


def of_config(config: Mapping[str, Any]) -> Shape:
    """The shape that a config.json describes. Raises UnknownFamilyError for a family that is not known here,
    UsageError for a config that lacks what its family needs."""
    family = str(config.get("model_type", ""))
    read = _FAMILIES.get(family)
    if read is None:
        raise UnknownFamilyError(
            f"model_type {family or 'missing'} is not known here, and no transformers here that can build it",
            hint=f"--params N for an assumed shape, or transformers beside clusterctl; known: "
            f"{', '.join(_FAMILIES)}",
        )
    return read(_Keys(config), family)


def of_size(parameters: int) -> Shape:
    """A Llama-like shape of about as many parameters, which are taken as they are: layers = hidden / 128,
    vocabulary 32,000, MLP 8/3 as wide. What depends on it (activations, logits) is an assumption."""
    if not 100_000 <= parameters <= 10**15:
        raise UsageError(f"a model of {parameters} parameters", hint="give --params 125M or 7B")
    hidden = max(64, 64 * round((parameters * 128 / 12) ** (1 / 3) / 64))
    layers = max(1, round(hidden / 128))
    ffn = 32 * round(hidden * 8 / 3 / 32)
    keys = {
        "vocab_size": 32_000,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "intermediate_size": ffn,
        "num_attention_heads": max(1, hidden // 128),
        "head_dim": min(128, hidden),
    }
    shape = _llama(_Keys(keys), "llama")
    return msgspec.structs.replace(
        shape,
        family="assumed",
        parameters=parameters,
        largest_layer=min(shape.largest_layer, parameters),
        assumed=True,
    )


def _llama(keys: _Keys, family: str) -> Shape:
    hidden, layers = keys.number("hidden_size"), keys.number("num_hidden_layers")
    heads = keys.number("num_attention_heads")
    kv_heads = keys.number("num_key_value_heads", {"mistral": 8, "mixtral": 8}.get(family, heads))
    keys.divided(heads, kv_heads, "heads and key-value heads that do not go together")
    own = {"gemma": 256, "gemma2": 256, "gemma3_text": 256, "qwen3": 128}.get(family)
    head_dim = keys.number("head_dim", own or max(1, hidden // heads))
    if not keys.has("head_dim") and own is None:
        keys.divided(hidden, heads, _HEADS)
    ffn, vocabulary = keys.number("intermediate_size"), keys.number("vocab_size")
    wide, narrow = heads * head_dim, kv_heads * head_dim
    experts = keys.number("num_local_experts", 8) if family == "mixtral" else 1
    used = keys.number("num_experts_per_tok", 2) if family == "mixtral" else None
    linears = [
        Linear(hidden, wide),
        Linear(hidden, narrow, 2),
        Linear(wide, hidden),
        Linear(hidden, ffn, 2 * experts, used),
        Linear(ffn, hidden, experts, used),
    ]
    if family == "phi3":
        linears = [
            Linear(hidden, wide + 2 * narrow),
            Linear(wide, hidden),
            Linear(hidden, 2 * ffn),
            Linear(ffn, hidden),
        ]
    layer = sum(each.parameters for each in linears)
    if family == "mixtral":
        layer += hidden * experts  # the router
    qwen2 = family == "qwen2"
    if qwen2 or (family != "phi3" and keys.flag("attention_bias", False)):
        layer += wide + 2 * narrow + (0 if qwen2 else hidden)
    if family == "llama" and keys.flag("mlp_bias", False):
        layer += 2 * ffn + hidden
    norms = 4 if family in ("gemma2", "gemma3_text") else 2
    qk_norm = family in ("qwen3", "gemma3_text")
    layer += hidden * norms + (2 * head_dim if qk_norm else 0)
    tied = _tied(keys, family)
    total = layers * layer + vocabulary * hidden * (1 if tied else 2) + hidden
    return Shape(
        family=family,
        parameters=total,
        layers=layers,
        hidden=hidden,
        ffn=ffn,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        vocabulary=vocabulary,
        linears=tuple(linears),
        largest_layer=max(layer, vocabulary * hidden),
        tied=tied,
        norms=norms,
        qk_norm=qk_norm,
        limit=keys.number("max_position_embeddings", 1 << 30),
    )


def _plain(
    keys: _Keys,
    family: str,
    names: tuple[str, str, str],
    *,
    ffn: int,
    outside: int,
    layer: int,
    limit: int,
    norms: int = 2,
) -> Shape:
    """A model with biases or LayerNorm; ``layer`` is what a layer has besides its matrices, ``outside`` what
    there is besides layers. ``names`` are the keys of hidden size, layers and heads."""
    hidden, layers, heads = (keys.number(name) for name in names)
    kv_heads = heads
    if family == "phi":
        kv_heads = keys.number("num_key_value_heads", heads)
    if family == "falcon":
        new = keys.flag("new_decoder_architecture", False)
        kv_heads = keys.number("num_kv_heads", heads) if new else heads
        if not new and keys.flag("multi_query", True):
            kv_heads = 1
    head_dim, vocabulary = keys.divided(hidden, heads, _HEADS), keys.number("vocab_size")
    narrow = kv_heads * head_dim
    in_one = family in ("gpt2", "gpt_neox", "falcon")
    linears = (
        *(
            (Linear(hidden, hidden + 2 * narrow),)
            if in_one
            else (Linear(hidden, hidden), Linear(hidden, narrow, 2))
        ),
        Linear(hidden, hidden),
        Linear(hidden, ffn),
        Linear(ffn, hidden),
    )
    layer += sum(each.parameters for each in linears)
    return Shape(
        family=family,
        parameters=layers * layer + outside,
        layers=layers,
        hidden=hidden,
        ffn=ffn,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        vocabulary=vocabulary,
        linears=linears,
        largest_layer=max(layer, vocabulary * hidden),
        tied=_tied(keys, family),
        gated=False,
        rms_norm=False,
        norms=norms,
        limit=limit,
    )


def _gpt2(keys: _Keys, family: str) -> Shape:
    hidden, limit = keys.number("n_embd"), keys.number("n_positions", 1024)
    ffn = keys.number("n_inner", 4 * hidden)
    head = 0 if _tied(keys, family) else keys.number("vocab_size") * hidden
    outside = (keys.number("vocab_size") + limit) * hidden + 2 * hidden + head
    return _plain(
        keys,
        family,
        ("n_embd", "n_layer", "n_head"),
        ffn=ffn,
        outside=outside,
        layer=4 * hidden + 3 * hidden + hidden + ffn + hidden,
        limit=limit,
    )


def _gpt_neox(keys: _Keys, family: str) -> Shape:
    hidden, ffn = keys.number("hidden_size"), keys.number("intermediate_size")
    embeddings = 1 if _tied(keys, family) else 2
    biases = 4 * hidden if keys.flag("attention_bias", True) else 0
    return _plain(
        keys,
        family,
        _USUAL,
        ffn=ffn,
        outside=embeddings * keys.number("vocab_size") * hidden + 2 * hidden,
        layer=4 * hidden + biases + ffn + hidden,
        limit=keys.number("max_position_embeddings", 1 << 30),
    )


def _opt(keys: _Keys, family: str) -> Shape:
    hidden, ffn, limit = (
        keys.number("hidden_size"),
        keys.number("ffn_dim"),
        keys.number("max_position_embeddings"),
    )
    inner = keys.number("word_embed_proj_dim", hidden)
    embeddings = 1 if _tied(keys, family) else 2
    outside = embeddings * keys.number("vocab_size") * inner + (limit + 2) * hidden
    outside += 2 * inner * hidden if inner != hidden else 0
    if keys.flag("do_layer_norm_before", True) and not keys.flag("_remove_final_layer_norm", False):
        outside += 2 * hidden
    biases = 5 * hidden + ffn if keys.flag("enable_bias", True) else 0
    return _plain(keys, family, _USUAL, ffn=ffn, outside=outside, layer=4 * hidden + biases, limit=limit)


def _phi(keys: _Keys, family: str) -> Shape:
    hidden, ffn, vocabulary = (keys.number(n) for n in ("hidden_size", "intermediate_size", "vocab_size"))
    heads = keys.number("num_attention_heads")
    narrow = keys.number("num_key_value_heads", heads) * (hidden // heads)
    embeddings = 1 if _tied(keys, family) else 2
    return _plain(
        keys,
        family,
        _USUAL,
        ffn=ffn,
        outside=embeddings * vocabulary * hidden + vocabulary + 2 * hidden,
        layer=2 * hidden + 2 * hidden + 2 * narrow + ffn + hidden,
        limit=keys.number("max_position_embeddings", 1 << 30),
        norms=1,
    )


def _falcon(keys: _Keys, family: str) -> Shape:
    hidden = keys.number("hidden_size")
    ffn = keys.number("ffn_hidden_size", 4 * hidden)
    new = keys.flag("new_decoder_architecture", False)
    two = (new and keys.number("num_ln_in_parallel_attn", 2) == 2) or not (
        new or keys.flag("parallel_attn", True)
    )
    heads = keys.number("num_attention_heads")
    narrow = hidden if not keys.flag("multi_query", True) else hidden // heads
    if new:
        narrow = keys.number("num_kv_heads", heads) * (hidden // heads)
    biases = 2 * hidden + 2 * narrow + ffn + hidden if keys.flag("bias", False) else 0
    embeddings = 1 if _tied(keys, family) else 2
    return _plain(
        keys,
        family,
        _USUAL,
        ffn=ffn,
        outside=embeddings * keys.number("vocab_size") * hidden + 2 * hidden,
        layer=(4 if two else 2) * hidden + biases,
        limit=keys.number("max_position_embeddings", 2048),
        norms=2 if two else 1,
    )


def _tied(keys: _Keys, family: str) -> bool:
    return keys.flag("tie_word_embeddings", family in _TIED)


_TIED = ("gemma", "gemma2", "gemma3_text", "gpt2", "opt", "falcon")
_USUAL = ("hidden_size", "num_hidden_layers", "num_attention_heads")
_FAMILIES: dict[str, Callable[[_Keys, str], Shape]] = {
    **dict.fromkeys(
        ("llama", "mistral", "mixtral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi3"), _llama
    ),
    "phi": _phi,
    "gpt2": _gpt2,
    "gpt_neox": _gpt_neox,
    "opt": _opt,
    "falcon": _falcon,
}
