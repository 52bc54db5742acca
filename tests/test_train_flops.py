from __future__ import annotations

import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "train"))

import flops  # noqa: E402
from model import GPTShape, parameter_count  # noqa: E402


@pytest.mark.parametrize(
    ("name", "tflops"),
    [
        ("NVIDIA H200", 989.0),
        ("NVIDIA H200 NVL", 835.0),
        ("NVIDIA H100 PCIe", 756.0),
        ("NVIDIA H100 80GB HBM3", 989.0),
        ("NVIDIA H20", 148.0),
        ("NVIDIA A100-SXM4-80GB", 312.0),
        ("NVIDIA GeForce RTX 3090", 71.0),
        ("NVIDIA GeForce RTX 3090 Ti", 80.0),
        ("NVIDIA GeForce RTX 4090", 165.2),
        ("NVIDIA GeForce RTX 4090 D", 147.1),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA GeForce RTX 2080 Ti", None),
    ],
)
def test_the_peak_of_a_device_is_known_or_none(
    name: str, tflops: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    peak = flops.peak(torch.device("cuda", 0))
    assert peak == (None if tflops is None else tflops * 1e12)


def test_a_cpu_has_no_peak_that_one_could_look_up() -> None:
    assert flops.peak(torch.device("cpu")) is None


def test_positions_cost_no_arithmetic() -> None:
    shape = GPTShape(vocab_size=50304, seq_len=1024, n_layer=12, d_model=768, n_head=12)
    matrices = 12 * 12 * 768**2 + 50304 * 768
    expected = 6 * matrices + 12 * 12 * 768 * 1024
    assert flops.per_token(shape, parameter_count(shape)) == pytest.approx(expected, rel=1e-3)
