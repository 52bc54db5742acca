from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "train"))

from model import GPT, Block, GPTShape, parameter_count  # noqa: E402

SHAPE = GPTShape(vocab_size=97, seq_len=33, n_layer=3, d_model=32, n_head=4)


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
    ("shape", "count"),
    [
        # Matrices 12 L d^2, tables (V + T) d, two gains and biases per block and one at the end.
        (
            GPTShape(vocab_size=8192, seq_len=128, n_layer=6, d_model=768, n_head=12),
            6 * 12 * 768**2 + (8192 + 128) * 768 + (2 * 6 + 1) * 2 * 768,
        ),
        (SHAPE, 3 * 12 * 32**2 + (97 + 33) * 32 + (2 * 3 + 1) * 2 * 32),
        # GPT-2 small without its biases.
        (GPTShape(vocab_size=50257, seq_len=1024, n_layer=12, d_model=768, n_head=12), 124_356_864),
    ],
)
def test_parameter_count_counts_the_tied_head_once(shape: GPTShape, count: int) -> None:
    assert parameter_count(shape) == count


def test_an_untrained_model_is_as_wise_as_chance(gpt: GPT) -> None:
    tokens = torch.randint(97, (8, 33))
    loss = gpt(tokens[:, :-1], tokens[:, 1:])
    assert loss.item() == pytest.approx(math.log(97), abs=0.1)


def test_residual_projections_start_smaller(gpt: GPT) -> None:
    block = gpt.blocks[0]
    assert isinstance(block, Block)
    ratio = block.attention.qkv.weight.std() / block.attention.proj.weight.std()
    assert ratio.item() == pytest.approx(math.sqrt(2 * 3), rel=0.1)


def test_the_gradient_is_the_same_when_activations_are_computed_again(gpt: GPT) -> None:
    tokens = torch.randint(97, (2, 13))
    found = []
    for recompute in (False, True):
        gpt.train().recompute = recompute
        gpt.zero_grad()
        gpt(tokens[:, :-1], tokens[:, 1:]).backward()
        found.append([parameter.grad for parameter in gpt.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


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
