from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path

import pytest

pytest.importorskip("torch")
np = pytest.importorskip("numpy")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "train"))

pytest.importorskip("deepspeed")
from errors import UserError  # noqa: E402
from optimization import lr_share  # noqa: E402
from sampling import IGNORED, HeldoutBatches, TrainingSamples  # noqa: E402

SEQ = 8
# Every token is its own position, so a window tells where it was cut.
TOKENS = np.arange(1000, dtype=np.uint16)


def starts(samples: TrainingSamples, first: int, rank: int, size: int) -> list[int]:
    inputs, _ = samples.batch(first, rank, size)
    return inputs[:, 0].tolist()


def test_targets_are_the_inputs_one_token_on() -> None:
    inputs, targets = TrainingSamples(TOKENS, SEQ, seed=1).batch(0, 0, 4)
    assert inputs.shape == targets.shape == (4, SEQ)
    assert (targets == inputs + 1).all()


def test_the_same_seed_gives_the_same_samples_and_another_seed_others() -> None:
    one, same, other = (TrainingSamples(TOKENS, SEQ, seed=seed) for seed in (1, 1, 2))
    assert starts(one, 40, 1, 4) == starts(same, 40, 1, 4)
    assert starts(one, 40, 1, 4) != starts(other, 40, 1, 4)


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
def test_ranks_divide_an_epoch_without_gap_or_overlap(world_size: int) -> None:
    samples = TrainingSamples(TOKENS, SEQ, seed=3)
    size = 2
    seen: list[int] = []
    for first in range(0, samples.per_epoch - world_size * size + 1, world_size * size):
        for rank in range(world_size):
            seen += starts(samples, first, rank, size)
    assert len(seen) == len(set(seen))
    assert len({start % SEQ for start in seen}) == 1
    assert samples.per_epoch - len(seen) < world_size * size


def test_the_sequence_does_not_depend_on_how_it_is_divided() -> None:
    samples = TrainingSamples(TOKENS, SEQ, seed=3)
    alone = starts(samples, 0, 0, 12)
    assert alone == [start for rank in range(3) for start in starts(samples, 0, rank, 4)]
    assert alone == [start for step in range(6) for start in starts(samples, 2 * step, 0, 2)]


def test_epochs_differ_and_a_batch_may_cross_their_border() -> None:
    samples = TrainingSamples(TOKENS, SEQ, seed=5)
    border = samples.per_epoch
    first, second = starts(samples, 0, 0, border), starts(samples, border, 0, border)
    assert first != second
    assert starts(samples, border - 2, 0, 4) == first[-2:] + second[:2]


def test_windows_stay_inside_the_text() -> None:
    for length in range(2 * SEQ + 1, 60):
        samples = TrainingSamples(TOKENS[:length], SEQ, seed=length)
        for epoch in range(20):
            _, targets = samples.batch(epoch * samples.per_epoch, 0, samples.per_epoch)
            assert int(targets.max()) < length


def test_too_little_text_is_said() -> None:
    with pytest.raises(UserError, match=r"12 training tokens are too few for --seq_len 8") as caught:
        TrainingSamples(TOKENS[:12], SEQ, seed=1)
    assert "smaller --seq_len" in caught.value.hint


@pytest.mark.parametrize(("size", "world_size"), [(1, 1), (2, 3), (4, 2), (16, 1), (3, 5)])
def test_the_held_out_samples_are_the_same_however_the_ranks_divide_them(size: int, world_size: int) -> None:
    heldout = HeldoutBatches(TOKENS[:101], SEQ)
    assert heldout.windows == 12
    seen: list[int] = []
    for index in range(-(-10 // (size * world_size))):
        for rank in range(world_size):
            inputs, targets, real = heldout.batch(index, rank, size, world_size, windows=10)
            assert inputs.shape == targets.shape == (size, SEQ)
            assert (targets[real:] == IGNORED).all() and (targets[:real] == inputs[:real] + 1).all()
            seen += inputs[:real, 0].tolist()
    assert sorted(seen) == [8 * window for window in range(10)]
    assert HeldoutBatches(TOKENS[:0], SEQ).windows == 0


def test_learning_rate_rises_to_the_peak_and_falls_to_a_tenth() -> None:
    shares = [lr_share(step, warmup=4, decay_steps=20) for step in range(25)]
    assert shares[:4] == [0.25, 0.5, 0.75, 1.0]
    assert max(shares) == 1.0
    assert all(later <= sooner for sooner, later in pairwise(shares[4:]))
    assert shares[20:] == [pytest.approx(0.1)] * 5
    assert lr_share(0, warmup=0, decay_steps=1) == 1.0
