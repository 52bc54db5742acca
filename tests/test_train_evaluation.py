from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest

for package in ("torch", "deepspeed"):
    pytest.importorskip(package)
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "train"))

from metrics import perplexity  # noqa: E402


def test_a_loss_beyond_what_exp_can_take_has_an_infinite_perplexity() -> None:
    assert perplexity(0.0) == 1.0
    assert perplexity(710.0) == math.inf
