"""What is concluded from measurements: recorded ones of two virtual hosts, and made-up ones beside them."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import pytest

from clusterctl.advise.compare.judge import Spread, judge, spread
from clusterctl.advise.compare.model import Comparison, Held, Place, Taken, Told, Trial
from clusterctl.advise.compare.parity import parity

RECORDED = Path(__file__).parent / "fixtures" / "compare" / "two_hosts.json"


def recorded() -> Comparison:
    return msgspec.json.decode(RECORDED.read_bytes(), type=Comparison)


def held(peak: int) -> Held:
    return Held(weights=peak // 4, gradients=peak // 4, optimizer=peak // 4, activations=peak // 4, peak=peak)


def trial(
    strategy: str,
    *,
    seconds: float = 1.0,
    noise: float = 0.01,
    peak: int = 1000,
    loss: float = 1.0,
    sent: float = 10.0,
    repetition: int = 1,
) -> Trial:
    steps = tuple(
        Taken(step=n, seconds=seconds * (1 + noise * (n % 5 - 2)), tokens=100, loss=loss / n)
        for n in range(1, 31)
    )
    return Trial(
        strategy=strategy,
        repetition=repetition,
        ending="measured",
        steps=steps,
        held={0: held(peak), 1: held(peak - 1)},
        told=Told(parameters=10_000_000, precision="fp32"),
        sent={"h0": sent, "h1": sent / 2},
    )


def failed(strategy: str, *, out_of_memory: bool = False) -> Trial:
    return Trial(
        strategy=strategy, repetition=1, ending="failed", cause="it broke", out_of_memory=out_of_memory
    )


def compared(*trials: Trial, memory: int | None = None, machine: str = "") -> Comparison:
    gpus = ("NVIDIA A100",) if memory else ()
    return Comparison(
        id="x",
        version="1",
        script="train.py",
        strategies=tuple(dict.fromkeys(each.strategy for each in trials)),
        steps=30,
        warmup=5,
        repeats=2,
        places=tuple(
            Place(host=f"h{n}", ranks=1, machine=machine or f"m{n}", gpus=gpus, memory=memory) for n in (0, 1)
        ),
        trials=trials,
        finished=True,
    )


def test_a_recorded_comparison_is_judged_as_its_figures_say() -> None:
    found = judge(recorded())
    assert [row.strategy for row in found.rows] == ["ddp", "zero1", "zero2", "zero3"]
    assert found.parity.verdict is True and found.parity.reference == "ddp"
    # 1,443,072 parameters in fp32 on two ranks: weights whole up to stage 2, the optimizer halved.
    ddp, _, zero2, zero3 = (row.held for row in found.rows)
    assert ddp and zero2 and zero3
    assert ddp.weights == zero2.weights == 4 * 1_443_072
    assert zero3.weights == pytest.approx(ddp.weights / 2, rel=0.01)
    assert ddp.optimizer == pytest.approx(8 * 1_443_072, rel=0.01)
    assert zero2.optimizer == pytest.approx(6 * 1_443_072, rel=0.01)
    for row in found.rows:
        assert row.sent is not None and row.said_sent is not None
        assert row.sent == pytest.approx(row.said_sent, rel=0.02)
    assert found.row("ddp").said_sent == pytest.approx(4 * 1_443_072, rel=0.01)
    assert found.best == "zero1" and found.equal == ("ddp",)
    assert any("one machine" in said for said in found.cautions)


def test_the_fastest_is_taken_where_the_spread_allows_to_say_so() -> None:
    found = judge(compared(trial("ddp", seconds=1.0), trial("zero3", seconds=1.5, peak=500)))
    assert found.best == "ddp" and found.equal == ()
    assert found.reasons[0] == "ddp: the fastest, 50% more tokens per second than zero3"
    assert found.row("ddp").rate == Spread(50.0, 50 / 1.01, 50 / 0.99)


def test_a_difference_within_the_spread_is_none_and_memory_decides() -> None:
    found = judge(
        compared(trial("ddp", seconds=1.0, noise=0.2), trial("zero2", seconds=1.1, noise=0.2, peak=600))
    )
    assert found.best == "zero2" and found.equal == ("ddp",)
    assert "60% of ddp" in found.reasons[1]


def test_what_is_sent_is_known_only_if_every_host_tells() -> None:
    silent = msgspec.structs.replace(trial("zero2"), sent={"h1": 5.0})
    found = judge(compared(trial("ddp"), silent))
    assert (found.row("ddp").sent, found.row("zero2").sent) == (10.0, None)


@pytest.mark.parametrize("best", [0.4, 0.9])
def test_offloading_is_for_what_does_not_fit(best: float) -> None:
    kept = compared(trial("zero2"), trial("zero2-offload", seconds=best, peak=100))
    assert judge(kept).best == "zero2"
    alone = compared(failed("zero2", out_of_memory=True), trial("zero2-offload", seconds=best))
    found = judge(alone)
    assert found.best == "zero2-offload" and "zero2: out of memory here" in found.reasons


def test_a_peak_that_barely_fits_ranks_behind() -> None:
    found = judge(compared(trial("ddp", peak=950), trial("zero3", seconds=2.0, peak=300), memory=1000))
    assert found.row("ddp").tight and found.best == "zero3"
    assert any(said.startswith("ddp: the peak is above") for said in found.reasons)


def test_what_trains_otherwise_is_not_recommended() -> None:
    found = judge(compared(trial("ddp", seconds=2.0), trial("zero1", loss=1.001)))
    assert found.best == "ddp" and "zero1: other losses than the reference" in found.reasons


def test_one_failure_is_a_row_and_none_measured_is_no_advice() -> None:
    found = judge(compared(trial("ddp"), failed("zero1")))
    assert (found.best, found.row("zero1").measured, found.row("zero1").cause) == ("ddp", 0, "it broke")
    assert judge(compared(failed("ddp"))).best == ""
    silent = msgspec.structs.replace(trial("ddp"), steps=(Taken(step=9, seconds=1.0),))
    assert "no tokens" in judge(compared(silent)).reasons[0]


def test_what_did_not_run_is_said() -> None:
    stopped = msgspec.structs.replace(compared(trial("ddp")), strategies=("ddp", "zero1"), finished=False)
    found = judge(stopped)
    assert found.row("zero1").cause == "not tried" and "it was stopped before all had run" in found.cautions


def test_parity_names_who_leaves_and_where() -> None:
    assert parity(compared(trial("zero1"), trial("ddp"))).reference == "ddp"
    near = parity(compared(trial("ddp"), trial("zero1", loss=1 + 9e-6)))
    assert near.verdict is True and near.tolerance == 1e-5
    far = parity(compared(trial("ddp"), trial("zero1", loss=1 + 2e-5)))
    assert far.verdict is False and far.deviating == ("zero1",)
    assert far.deviations[0].first == 1
    half = Told(parameters=1, precision="bf16")
    coarse = [msgspec.structs.replace(each, told=half) for each in (trial("ddp"), trial("zero1", loss=1.01))]
    assert parity(compared(*coarse)).verdict is True


def test_parity_takes_every_repetition_and_compares_like_with_like() -> None:
    again = trial("ddp", repetition=2, loss=1.1)
    found = parity(compared(trial("ddp"), trial("zero1"), again))
    assert found.verdict is False and found.deviating == ("ddp",)
    more = msgspec.structs.replace(trial("zero1"), steps=(Taken(step=1, tokens=200, loss=1.0),))
    assert parity(compared(trial("ddp"), more)).unlike == ("zero1",)


def test_a_loss_that_is_no_number_is_no_parity() -> None:
    broken = trial("zero1", loss=math.nan)
    assert parity(compared(trial("ddp"), broken)).verdict is False
    silent = msgspec.structs.replace(trial("ddp"), steps=())
    assert parity(compared(silent)).verdict is None


def test_a_spread_is_the_middle_half() -> None:
    assert spread([]) is None
    assert spread([3.0]) == Spread(3.0, 3.0, 3.0)
    assert spread([float(n) for n in range(1, 102)]) == Spread(51.0, 26.0, 76.0)
