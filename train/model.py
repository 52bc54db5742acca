"""A GPT in the shape of GPT-2: pre-norm blocks, learned positions, tied head; biases in the norms only."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

INIT_STD = 0.02


@dataclass(frozen=True, kw_only=True)
class GPTShape:
    vocab_size: int
    seq_len: int
    n_layer: int
    d_model: int
    n_head: int
    dropout: float = 0.0


class Linear(nn.Linear):
    """Drawn while it is made: with ZeRO-3 each rank keeps but a part of it afterwards."""

    def __init__(self, inputs: int, outputs: int, std: float = INIT_STD) -> None:
        super().__init__(inputs, outputs, bias=False)
        nn.init.normal_(self.weight, std=std)


class Embedding(nn.Embedding):
    def __init__(self, count: int, width: int) -> None:
        super().__init__(count, width)
        nn.init.normal_(self.weight, std=INIT_STD)


class Attention(nn.Module):
    def __init__(self, shape: GPTShape) -> None:
        super().__init__()
        self.n_head = shape.n_head
        self.dropout = shape.dropout
        self.qkv = Linear(shape.d_model, 3 * shape.d_model)
        self.proj = Linear(shape.d_model, shape.d_model, residual_std(shape))

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = (
            part.view(batch, length, self.n_head, -1).transpose(1, 2) for part in self.qkv(x).chunk(3, dim=-1)
        )
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)
        projected: Tensor = self.proj(mixed.transpose(1, 2).reshape(batch, length, width))
        return projected


class MLP(nn.Module):
    def __init__(self, shape: GPTShape) -> None:
        super().__init__()
        self.up = Linear(shape.d_model, 4 * shape.d_model)
        self.proj = Linear(4 * shape.d_model, shape.d_model, residual_std(shape))

    def forward(self, x: Tensor) -> Tensor:
        projected: Tensor = self.proj(F.gelu(self.up(x), approximate="tanh"))
        return projected


class Block(nn.Module):
    def __init__(self, shape: GPTShape) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(shape.d_model)
        self.attention = Attention(shape)
        self.mlp_norm = nn.LayerNorm(shape.d_model)
        self.mlp = MLP(shape)
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.attention(self.attention_norm(x)))
        summed: Tensor = x + self.dropout(self.mlp(self.mlp_norm(x)))
        return summed


class GPT(nn.Module):
    """Next-token model. `forward(tokens)` gives logits; with `targets`, the mean cross-entropy in nats.

    With `recompute`, a training pass keeps only what goes into each block, and computes the rest again.
    """

    def __init__(self, shape: GPTShape, *, recompute: bool = False) -> None:
        super().__init__()
        self.shape = shape
        self.recompute = recompute
        self.embedding = Embedding(shape.vocab_size, shape.d_model)
        self.positions = Embedding(shape.seq_len, shape.d_model)
        self.dropout = nn.Dropout(shape.dropout)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.n_layer))
        self.norm = nn.LayerNorm(shape.d_model)
        self.head = nn.Linear(shape.d_model, shape.vocab_size, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor, targets: Tensor | None = None) -> Tensor:
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.dropout(self.embedding(tokens) + self.positions(positions))
        recompute = self.recompute and self.training
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if recompute else block(x)
        logits: Tensor = self.head(self.norm(x))
        if targets is None:
            return logits
        return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())


def residual_std(shape: GPTShape) -> float:
    """GPT-2: what is added to the residual stream 2 * n_layer times starts that much smaller."""
    return INIT_STD / math.sqrt(2 * shape.n_layer)


def parameter_count(shape: GPTShape) -> int:
    """Trainable parameters, the tied embedding and head counted once."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in GPT(shape).parameters())
