"""How much arithmetic a token costs, and what known GPUs can do at most."""

from __future__ import annotations

import torch

from model import GPTShape

# Dense bf16 TFLOP/s, without 2:4 sparsity, from the vendor's data sheets. The first entry that is part of the
# device's name counts. A device that is not here gets no MFU: a guess would be worse than none.
PEAK_BF16_TFLOPS: tuple[tuple[str, float | None], ...] = (
    ("H200 NVL", 835.0),
    ("H200", 989.0),
    ("H100 NVL", 835.0),
    ("H100 PCIe", 756.0),
    ("H100", 989.0),
    ("H20", 148.0),
    ("GB200", 2500.0),
    ("B200", 2250.0),
    ("A100", 312.0),
    ("A6000", 154.85),
    ("L40S", 362.0),
    # GeForce: half of what their data sheets give with accumulation in fp16, which training does not use.
    ("RTX 3090 Ti", 80.0),
    ("RTX 3090", 71.0),
    ("RTX 4090 Laptop", None),
    ("RTX 4090 D", 147.1),
    ("RTX 4090", 165.2),
)


def per_token(shape: GPTShape, parameters: int) -> float:
    """FLOPs of forward and backward for one token: 6 N + 12 L d T.

    The convention of PaLM (arXiv 2204.02311, appendix B), which nanoGPT uses too: N includes the tied head
    but not the positions, and the attention scores count in full although half of them are masked.
    """
    counted = parameters - shape.seq_len * shape.d_model
    return 6.0 * counted + 12.0 * shape.n_layer * shape.d_model * shape.seq_len


def peak(device: torch.device) -> float | None:
    """Dense bf16 FLOP/s of this device, None where it is not known."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    found = next((tflops for model, tflops in PEAK_BF16_TFLOPS if model in name), None)
    return None if found is None else found * 1e12
