"""A decoder-only GPT: pre-norm blocks, causal attention, rotary positions, tied output head."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ROTARY_BASE = 10_000.0
INIT_STD = 0.02


@dataclass(frozen=True)
class GPTShape:
    vocab_size: int
    n_layer: int
    d_model: int
    n_head: int
    dropout: float = 0.0

    @property
    def head_dim(self) -> int:
        return self.d_model // self.n_head


class Attention(nn.Module):
    def __init__(self, shape: GPTShape) -> None:
        super().__init__()
        self.n_head = shape.n_head
        self.dropout = shape.dropout
        self.qkv = nn.Linear(shape.d_model, 3 * shape.d_model, bias=False)
        self.proj = nn.Linear(shape.d_model, shape.d_model, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = (
            part.view(batch, length, self.n_head, -1).transpose(1, 2) for part in self.qkv(x).chunk(3, dim=-1)
        )
        mixed = F.scaled_dot_product_attention(
            rotate(q, cos, sin),
            rotate(k, cos, sin),
            v,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=True,
        )
        projected: Tensor = self.proj(mixed.transpose(1, 2).reshape(batch, length, width))
        return projected


class MLP(nn.Module):
    def __init__(self, shape: GPTShape) -> None:
        super().__init__()
        self.up = nn.Linear(shape.d_model, 4 * shape.d_model, bias=False)
        self.proj = nn.Linear(4 * shape.d_model, shape.d_model, bias=False)

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

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.dropout(self.attention(self.attention_norm(x), cos, sin))
        summed: Tensor = x + self.dropout(self.mlp(self.mlp_norm(x)))
        return summed


class GPT(nn.Module):
    """Next-token model. `forward(tokens)` gives logits; with `targets`, the mean cross-entropy in nats."""

    def __init__(self, shape: GPTShape) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.vocab_size, shape.d_model)
        self.dropout = nn.Dropout(shape.dropout)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.n_layer))
        self.norm = nn.LayerNorm(shape.d_model)
        self.head = nn.Linear(shape.d_model, shape.vocab_size, bias=False)
        self.head.weight = self.embedding.weight
        self._initialise()

    def forward(self, tokens: Tensor, targets: Tensor | None = None) -> Tensor:
        x = self.dropout(self.embedding(tokens))
        cos, sin = rotary_angles(tokens.shape[1], self.shape.head_dim, x)
        for block in self.blocks:
            x = block(x, cos, sin)
        logits: Tensor = self.head(self.norm(x))
        if targets is None:
            return logits
        return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())

    def parameter_count(self) -> int:
        """Trainable parameters, the tied embedding and head counted once."""
        return sum(parameter.numel() for parameter in self.parameters())

    def _initialise(self) -> None:
        for name, parameter in self.named_parameters():
            if parameter.dim() < 2:
                continue
            # GPT-2: what is added to the residual stream 2 * n_layer times starts that much smaller.
            scale = math.sqrt(2 * self.shape.n_layer) if name.endswith("proj.weight") else 1.0
            nn.init.normal_(parameter, mean=0.0, std=INIT_STD / scale)


def rotary_angles(length: int, head_dim: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines, each (length, head_dim), on the device and in the dtype of `like`.

    They are computed in fp32 each time and not kept as a buffer: DeepSpeed casts buffers to bf16 or fp16,
    in which positions beyond a few hundred are no longer told apart.
    """
    steps = torch.arange(0, head_dim, 2, device=like.device, dtype=torch.float32)
    frequency = ROTARY_BASE ** (-steps / head_dim)
    angle = torch.outer(torch.arange(length, device=like.device, dtype=torch.float32), frequency)
    angle = torch.cat((angle, angle), dim=-1)
    return angle.cos().to(like.dtype), angle.sin().to(like.dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin
