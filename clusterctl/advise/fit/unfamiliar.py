"""The shape of a model whose family is not known here, by what transformers builds of its config."""

from __future__ import annotations

from typing import Annotated

import msgspec

from clusterctl.advise.fit.shapes import Linear, Shape

Count = Annotated[int, msgspec.Meta(ge=1)]


class Built(msgspec.Struct, frozen=True, kw_only=True):
    """As `node/model_shape.py` tells it; ``linears`` are inputs, outputs and how many there are in all
    layers."""

    parameters: Count
    largest: Count
    linears: tuple[tuple[Count, Count, Count], ...]
    hidden_size: Count
    num_hidden_layers: Count
    num_attention_heads: Count
    vocab_size: int = 0
    """None in what takes no words, such as a ViT."""
    num_key_value_heads: Count | None = None
    head_dim: Count | None = None
    intermediate_size: Count | None = None
    moe_intermediate_size: Count | None = None
    num_experts_per_tok: Count = 1
    max_position_embeddings: Count | None = None


def decode(data: bytes) -> Built:
    """Raises msgspec.MsgspecError, also for a model without what a transformer has."""
    return msgspec.json.decode(data, type=Built)


def of_built(built: Built, family: str) -> Shape:
    """Parameters are exact; what a layer keeps is taken for that of a Llama-like one of these sizes."""
    layers, hidden, heads = built.num_hidden_layers, built.hidden_size, built.num_attention_heads
    linears = [
        Linear(inputs, outputs, max(1, round(count / layers))) for inputs, outputs, count in built.linears
    ]
    ffn = built.intermediate_size or 4 * hidden
    if built.moe_intermediate_size is not None:
        ffn = built.moe_intermediate_size * built.num_experts_per_tok
    return Shape(
        family=family,
        parameters=built.parameters,
        layers=layers,
        hidden=hidden,
        ffn=ffn,
        heads=heads,
        kv_heads=built.num_key_value_heads or heads,
        head_dim=built.head_dim or max(1, hidden // heads),
        vocabulary=built.vocab_size,
        linears=tuple(linears) or (Linear(hidden, hidden),),
        largest_layer=built.largest,
        assumed=True,
        limit=built.max_position_embeddings,
    )
