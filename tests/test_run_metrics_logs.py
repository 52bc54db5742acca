"""What is read from the lines of common libraries and scripts, for ranks that tell nothing by themselves."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from clusterctl.messages.relay import LogPiece
from clusterctl.run.metrics.log_shapes import LogReader
from clusterctl.store.runs import RunDirectory
from tests.test_run_metrics import Run, directory

__all__ = ["directory"]
FIXTURES = Path(__file__).parent / "fixtures" / "steps"
Found = tuple[str, int, dict[str, float]]
EXPECTED: dict[str, list[Found]] = {
    "nanogpt": [
        ("log:text", 0, {"loss": 10.9886, "step_s": 53.84231}),
        ("log:text", 0, {"loss": 10.9894, "eval_loss": 10.9902}),
        ("log:text", 10, {"loss": 9.6311, "step_s": 0.26077, "mfu": 0.3854}),
    ],
    "megatron": [
        ("log:megatron", 122,
         {"step_s": 86.5452, "lr": 9.15e-6, "loss": 2.50422, "grad_norm": 0.231, "skipped": 0}),
    ],
    "lightning": [
        ("log:lightning", 1, {"loss": 10.473, "step_s": 8.77}),
        ("log:lightning", 18, {"loss": 9.83, "step_s": 1 / 2.06}),
        ("log:lightning", 20, {"loss": 9.7, "step_s": 0.5}),
    ],
    "hf": [
        ("log:hf", 10, {"loss": 2.345, "grad_norm": 1.25, "lr": 4.5e-5, "epoch": 0.33}),
        ("log:hf", 10, {"eval_loss": 2.2, "eval_runtime": 0.5, "epoch": 0.33}),
        ("log:hf", 20, {"loss": math.nan, "grad_norm": 1.1, "lr": 4e-5, "epoch": 0.67}),
    ],
    "deepspeed": [
        ("log:deepspeed", 10, {"skipped": 1, "lr": 1e-4}),
        ("log:deepspeed", 10, {"samples_per_s": 104.25, "peak_bytes": 2 * 2**30}),
    ],
    "mnist": [
        ("log:text, counted", 1, {"loss": 2.300024}),
        ("log:text, counted", 2, {"loss": 1.149496}),
        ("log:text, counted", 2, {"eval_loss": 0.0484}),
    ],
    "plain": [
        ("log:text", 10, {"loss": 2.3}),
        ("log:text", 11, {"loss": math.nan, "lr": 1e-4}),
        ("log:text", 12, {"loss": 2.1, "lr": 0.001, "grad_norm": math.inf}),
    ],
    "bare": [
        ("log:text, counted", 1, {"loss": 1.23}),
        ("log:text, counted", 2, {"loss": 1.2}),
        ("log:text, counted", 2, {"eval_loss": 1.5}),
    ],
    "tqdm": [
        ("log:tqdm", 10, {"loss": 2.34, "lr": 1e-4, "step_s": 0.5}),
        ("log:tqdm", 11, {"loss": 2.33, "step_s": 1.5}),
    ],
}  # fmt: skip


def read(data: bytes, size: int) -> list[Found]:
    reader = LogReader()
    pieces = (data[at : at + size] for at in range(0, len(data), size))
    return [(kind, told.step, told.values) for piece in pieces for told, kind in reader.read(piece)]


def test_every_fixture_is_expected() -> None:
    assert {path.stem for path in FIXTURES.iterdir()} == EXPECTED.keys()


@pytest.mark.parametrize("size", [1 << 20, 7])
@pytest.mark.parametrize("name", EXPECTED)
def test_lines_as_libraries_print_them(name: str, size: int) -> None:
    found = read((FIXTURES / f"{name}.txt").read_bytes(), size)
    assert [(kind, step) for kind, step, _ in found] == [(kind, step) for kind, step, _ in EXPECTED[name]]
    for (_, _, values), (_, _, expected) in zip(found, EXPECTED[name], strict=True):
        assert values == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    "text",
    [
        "loss of connection to 10.0.0.1 port 29500", "RuntimeError: loss: expected scalar", "lossless 3",
        "Map: 100%|##########| 1000/1000 [00:01<00:00, 900.1 examples/s]", "loss" * 1000, "{'loss': {}}",
        "x" * 5000 + " loss: 1", "gloss: 3", "packet loss 10.0.0.3", "\x00\xff loss \x1b[",
        "Epoch 0: | 1/2 [00:00<00:00, 0.00it/s, loss=x]", "loss: " + "1" * 4000, "it/s " + "1" * 4000,
        "loss step " + "1" * 4000, "loss step=" * 400, "{" + "'loss' " * 500, "\x1b[loss" * 500,
    ],
)  # fmt: skip
def test_what_only_looks_like_it(text: str) -> None:
    assert read(text.encode(errors="surrogateescape") + b"\n", 1 << 20) == []


def test_colours_do_not_matter() -> None:
    assert read(b"\x1b[32mstep 3\x1b[0m \x1b[1mloss:\x1b[0m 1.5\n", 99) == [("log:text", 3, {"loss": 1.5})]


def prints(run: Run, rank: int, data: bytes, offset: int = 0) -> None:
    run.logs.take(f"h{rank}", LogPiece(name=f"rank-{rank}.log", offset=offset, data=data), 0.0)
    run.metrics.grew(f"h{rank}", f"rank-{rank}.log")


def test_logs_are_read_where_a_rank_tells_nothing(directory: RunDirectory) -> None:
    run = Run(directory)
    prints(run, 0, b"step 1 loss 2.0\nstep 2 loss 4.0\n")
    prints(run, 1, b"step 1 loss 9.0\n")
    run.writes(1, {"step": 1, "loss": 6.0})
    found = run.look(over=True)
    assert [(step.step, step.loss, step.source) for step in found] == [
        (1, 4.0, "log:text"),
        (2, 4.0, "log:text"),
    ]


def test_of_a_flood_the_newest_is_read(directory: RunDirectory) -> None:
    run = Run(directory)
    flood = b"".join(b"step %d loss 1.0 %s\n" % (number, b"x" * 100) for number in range(60_000))
    prints(run, 0, flood)
    found = run.look(over=True)
    assert found[-1].step == 59_999 and len(found) < 60_000
    assert run.said == []


# As real programs print it, on a pipe and on a terminal: the Trainer of transformers 5.23, tqdm with a loss
# and a learning rate behind it, both bars of Lightning 2.6, the prints of nanoGPT, DeepSpeed 0.19.8.

RECORDED = FIXTURES.parent / "recorded_steps"
RECORDED_BARS = {
    "tqdm.pipe": set(range(1, 17)),
    "tqdm.pty": set(range(1, 17)),
    "lightning.pipe": set(range(3, 25, 3)),
    "lightning.pty": set(range(3, 25, 3)),
    "lightning-rich.pipe": {24},
    "lightning-rich.pty": {4, 5, 9, 11, 12, 16, 17, 19, 20, 22, 24},
}
"""Lightning evaluates after 12 steps and after 24, with a bar of 12, too."""
DEEPSPEED = [
    (5, {"skipped": 0.0, "lr": 0.001}),
    (5, {"samples_per_s": 165.71694785197712, "peak_bytes": 0.33 * 2**30}),
    (10, {"skipped": 0.0, "lr": 0.001}),
    (10, {"samples_per_s": 168.35264952492886, "peak_bytes": 0.33 * 2**30}),
]
RECORDED_STEPS: dict[str, list[tuple[str, int, float | None, float | None, float | None]]] = {
    "hf": [
        ("log:hf", 5, 3.895, None, 4e-4),
        ("log:hf", 10, 3.9, None, 2.75e-4),
        ("log:hf", 10, None, 3.91, None),
        ("log:hf", 15, 3.903, None, 1.5e-4),
        ("log:hf", 20, 3.91, None, 2.5e-5),
        ("log:hf", 20, None, 3.908, None),
    ],
    "nanogpt": [
        ("log:text", 0, 0.2478, 0.2787, None),
        ("log:text", 0, 0.0205, None, None),
        ("log:text", 5, 0.088, None, None),
        ("log:text", 10, 0.0306, 0.0293, None),
        ("log:text", 10, 0.0361, None, None),
        ("log:text", 15, 0.0056, None, None),
        ("log:text", 20, 0.0008, 0.001, None),
        ("log:text", 20, 0.0025, None, None),
        ("log:text", 25, 0.0002, None, None),
        ("log:text", 30, 0.0001, 0.0, None),
        ("log:text", 30, 0.0, None, None),
    ],
}


def test_every_recording_is_expected() -> None:
    names = {path.name for path in RECORDED.iterdir()}
    steps = {f"{name}.{how}" for name in RECORDED_STEPS for how in ("pipe", "pty")}
    assert names == {*steps, *RECORDED_BARS, "deepspeed.pipe"}


def test_deepspeed_s_own_lines_begin_with_its_first_step() -> None:
    found = read((RECORDED / "deepspeed.pipe").read_bytes(), 7)
    assert [(step, values) for _, step, values in found] == DEEPSPEED


@pytest.mark.parametrize("size", [1 << 20, 7])
@pytest.mark.parametrize("how", ["pipe", "pty"])
@pytest.mark.parametrize("name", RECORDED_STEPS)
def test_recorded_output_is_read_as_it_was_meant(name: str, how: str, size: int) -> None:
    found = read((RECORDED / f"{name}.{how}").read_bytes(), size)
    told = [(kind, step, v.get("loss"), v.get("eval_loss"), v.get("lr")) for kind, step, v in found]
    assert told == RECORDED_STEPS[name]


@pytest.mark.parametrize("name", RECORDED_BARS)
def test_recorded_bars_tell_their_steps_over_all_epochs(name: str) -> None:
    found = read((RECORDED / name).read_bytes(), 7)
    steps = [step for _, step, _ in found]
    assert steps == sorted(steps) and set(steps) == RECORDED_BARS[name]
    assert {values.get("lr", 0.1) for _, _, values in found} == {0.1}
    assert all(0 <= values["loss"] < 0.5 for _, _, values in found)
    assert all(values.get("eval_loss", 0.0) < 0.001 for _, _, values in found)
