"""A fine-tuning that is stopped and goes on ends with the adapter of one that was left alone."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

for package in ("deepspeed", "peft"):
    pytest.importorskip(package)

from tests.integration.pretraining import PATIENCE, environment, free_port  # noqa: E402
from tests.tiny_models import save_model, save_pairs  # noqa: E402

SCRIPT = Path(__file__).resolve().parents[2] / "train" / "sft.py"
STEPS = 40
STEP = re.compile(rf"step +(\d+)/{STEPS}  loss ([\d.]+)")


class Ranks:
    """Two ranks, started as a launcher would."""

    def __init__(self, place: Path, save_dir: str, *words: str) -> None:
        together = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
        command = [sys.executable, str(SCRIPT), "--model", "model", "--data", "pairs.jsonl"]
        command += ["--save_dir", save_dir, "--steps", str(STEPS), "--log_every", "1", "--dtype", "fp32"]
        command += ["--micro_batch", "2", "--seq_len", "64", "--eval_share", "0", "--lr", "1e-2"]
        command += ["--strategy", "ddp", *words]
        self.logs = [place / f"{save_dir}-{len(list(place.glob('*.log')))}-{rank}.log" for rank in (0, 1)]
        self.processes = []
        for rank, log in enumerate(self.logs):
            env = environment(place, RANK=str(rank), LOCAL_RANK=str(rank), OMP_NUM_THREADS="1", **together)
            with log.open("w") as output:
                self.processes.append(
                    subprocess.Popen(command, cwd=place, env=env, stdout=output, stderr=subprocess.STDOUT)
                )

    def said(self) -> str:
        return self.logs[0].read_text()

    def losses(self) -> dict[int, str]:
        return {int(step): loss for step, loss in STEP.findall(self.said())}

    def signal_at(self, step: int, number: signal.Signals, *ranks: int) -> None:
        ends = time.monotonic() + PATIENCE
        while step not in self.losses():
            assert time.monotonic() < ends and self.processes[0].poll() is None, self.said()
            time.sleep(0.02)
        for rank in ranks:
            self.processes[rank].send_signal(number)

    def codes(self) -> list[int]:
        try:
            return [process.wait(PATIENCE) for process in self.processes]
        finally:
            for process in self.processes:
                process.kill()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stops")
    save_model(folder / "model")
    save_pairs(folder / "pairs.jsonl")
    return folder


@pytest.mark.long
@pytest.mark.training
def test_what_was_stopped_goes_on_where_it_was(place: Path) -> None:
    whole = Ranks(place, "whole")
    assert whole.codes() == [0, 0], whole.said()
    wanted = whole.losses()
    assert list(wanted) == list(range(1, STEPS + 1))

    # SIGTERM reaches one rank, as a scheduler's may; Ctrl-C both.
    first = Ranks(place, "stopped")
    first.signal_at(2, signal.SIGTERM, 1)
    assert first.codes() == [143, 143], first.said()
    second = Ranks(place, "stopped", "--resume", "auto")
    second.signal_at(max(first.losses()) + 2, signal.SIGINT, 0, 1)
    assert second.codes() == [130, 130], second.said()
    assert "Traceback" not in second.said() and "--resume auto goes on" in second.said()
    third = Ranks(place, "stopped", "--resume", "auto")
    assert third.codes() == [0, 0], third.said()

    assert {**first.losses(), **second.losses(), **third.losses()} == wanted
    assert max(first.losses()) + 1 == min(second.losses()) and max(second.losses()) + 1 == min(third.losses())
    adapters = [(place / name / "adapter_model.safetensors").read_bytes() for name in ("whole", "stopped")]
    assert adapters[0] == adapters[1]
