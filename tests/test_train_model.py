from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "train"))

from model import GPT, Block, GPTShape, rotary_angles, rotate  # noqa: E402

SHAPE = GPTShape(vocab_size=97, n_layer=3, d_model=32, n_head=4)


@pytest.fixture
def gpt() -> GPT:
    torch.manual_seed(0)
    return GPT(SHAPE).eval()


def test_logits_for_every_position_and_word(gpt: GPT) -> None:
    assert gpt(torch.zeros(2, 11, dtype=torch.long)).shape == (2, 11, 97)


def test_a_position_sees_nothing_of_what_follows_it(gpt: GPT) -> None:
    tokens = torch.randint(97, (1, 12))
    changed = tokens.clone()
    changed[0, 7] = (changed[0, 7] + 1) % 97
    before, after = gpt(tokens), gpt(changed)
    assert torch.equal(before[:, :7], after[:, :7])
    assert (before[:, 7:] != after[:, 7:]).any(dim=-1).all()


def test_order_of_the_context_matters(gpt: GPT) -> None:
    tokens = torch.tensor([[5, 6, 7]])
    assert not torch.allclose(gpt(tokens)[:, -1], gpt(tokens[:, [1, 0, 2]])[:, -1])


@pytest.mark.parametrize(
    ("shape", "millions"),
    [
        # Matrices 12 L d^2, the tied table V d, and two gains and biases per block and one at the end.
        (GPTShape(8192, 6, 768, 12), 6 * 12 * 768**2 + 8192 * 768 + (2 * 6 + 1) * 2 * 768),
        (SHAPE, 3 * 12 * 32**2 + 97 * 32 + (2 * 3 + 1) * 2 * 32),
    ],
)
def test_parameter_count_counts_the_tied_head_once(shape: GPTShape, millions: int) -> None:
    with torch.device("meta"):
        assert GPT(shape).parameter_count() == millions


def test_an_untrained_model_is_as_wise_as_chance(gpt: GPT) -> None:
    tokens = torch.randint(97, (8, 33))
    loss = gpt(tokens[:, :-1], tokens[:, 1:])
    assert loss.item() == pytest.approx(math.log(97), abs=0.1)


def test_residual_projections_start_smaller(gpt: GPT) -> None:
    block = gpt.blocks[0]
    assert isinstance(block, Block)
    ratio = block.attention.qkv.weight.std() / block.attention.proj.weight.std()
    assert ratio.item() == pytest.approx(math.sqrt(2 * 3), rel=0.1)


def test_rotary_products_depend_on_the_distance_only() -> None:
    cos, sin = rotary_angles(40, 8, torch.zeros(1, dtype=torch.float64))
    query, key = torch.randn(8, dtype=torch.float64), torch.randn(8, dtype=torch.float64)
    at = [rotate(query, cos[i], sin[i]) @ rotate(key, cos[i + 5], sin[i + 5]) for i in (0, 11, 34)]
    assert torch.allclose(at[0], at[1], atol=1e-5) and torch.allclose(at[0], at[2], atol=1e-5)


def test_it_can_learn_a_sequence_by_heart() -> None:
    torch.manual_seed(0)
    model = GPT(SHAPE)
    tokens = torch.randint(97, (1, 17))
    adam = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        loss = model(tokens[:, :-1], tokens[:, 1:])
        adam.zero_grad()
        loss.backward()
        adam.step()
    assert loss.item() < 0.1
