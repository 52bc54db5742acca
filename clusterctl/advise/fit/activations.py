"""What the forward pass keeps for the backward pass, tensor by tensor.

Counted along the code of transformers 5 as PyTorch runs it, without a compiler; docs/fit.md has it beside
measurement. The idea, and the figures of a plain block, are those of Korthikanti et al., arXiv 2205.05198,
section 4.
"""

from __future__ import annotations

from clusterctl.advise.fit.job import Job
from clusterctl.advise.fit.shapes import Shape

_STATISTICS = 8
"""Mean and deviation of a norm, for each token."""
_MLP = {"opt": 1.0, "gpt2": 5.0, "phi": 5.0, "gpt_neox": 2.0, "falcon": 2.0}
"""Tensors as wide as the MLP: its output, what the activation function keeps, a gate and its product."""
_GATED = 4.0
_FUSED_QKV = ("gpt_neox", "falcon", "phi3")
"""Queries and keys are turned into new tensors, while values keep the projection's whole output."""
_ONE_MORE = ("phi", "phi3")
"""Measured, not explained: one more tensor of the attention's width."""
_SCORES = ("falcon", "gemma2")
"""Their attention keeps its matrix of scores in any case."""
UNCERTAIN = ("falcon", "gemma3_text")
"""Falcon was measured 7 % beside what is counted here; the other was not measured."""


def of_layer(shape: Shape, job: Job) -> int:
    """Bytes that one layer keeps of one micro-batch."""
    element, wide, narrow = job.element, shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    attention = element * (2 * wide + 2 * narrow) + 4 * shape.heads
    if shape.family in _FUSED_QKV:
        attention += element * (wide + narrow)
    if shape.family in _ONE_MORE:
        attention += element * wide
    if shape.qk_norm:
        attention += (4 + element) * (wide + narrow)
    if not job.flash or shape.family in _SCORES:
        # Probabilities in fp32 and once more in the model's precision; a K and a V for each head.
        attention += shape.heads * job.sequence * (6 if element == 2 else 4) + 2 * element * (wide - narrow)
    mlp = element * shape.ffn * (_GATED if shape.gated else _MLP[shape.family])
    if shape.active_experts:
        # Tokens are gathered for each expert they go to, and what it makes of them is weighted.
        mlp = shape.active_experts * (mlp + 2 * element * shape.hidden)
    each = shape.norms * _norm(shape, element) + attention + mlp
    return round(job.micro_batch * job.sequence * each)


def of_end(shape: Shape, job: Job) -> int:
    """The last norm and what the head is given."""
    return job.micro_batch * job.sequence * _norm(shape, job.element)


def logits(shape: Shape, job: Job) -> int:
    """Bytes at the largest moment, when the loss goes backward.

    The loss is computed in fp32 at any precision: log-probabilities, their gradient and that of the logits
    are three tensors of 4 bytes for each token and word of the vocabulary. Gemma 2 bends the logits, and
    keeps them.
    """
    words = job.micro_batch * job.sequence * shape.vocabulary
    return (12 + (job.element if shape.family == "gemma2" else 0)) * words


def _norm(shape: Shape, element: int) -> int:
    """RMSNorm keeps its input in fp32, the normalized and the scaled tensor; LayerNorm input and output."""
    if not shape.rms_norm:
        return 2 * element * shape.hidden + _STATISTICS
    if shape.family.startswith("gemma"):
        return (8 + element) * shape.hidden + _STATISTICS
    return (4 + 2 * element) * shape.hidden + _STATISTICS
