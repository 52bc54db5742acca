"""A fine-tuning that is stopped or killed and goes on ends with the weights of one that was left alone."""

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
    """Ranks, started as a launcher would: on one host, or each on one with a disk of its own."""

    def __init__(
        self, place: Path, save_dir: str, *words: str, ranks: int = 2, own_disks: bool = False
    ) -> None:
        together = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
        command = [sys.executable, str(SCRIPT), "--model", str(place / "model")]
        command += ["--data", str(place / "pairs.jsonl")]
        command += ["--save_dir", save_dir, "--steps", str(STEPS), "--log_every", "1", "--dtype", "fp32"]
        command += ["--micro_batch", "2", "--seq_len", "64", "--eval_share", "0", "--lr", "1e-2"]
        command += [*(() if "--strategy" in words else ("--strategy", "ddp")), *words]
        start = len(list(place.glob("*.log")))
        self.logs = [place / f"{save_dir}-{start}-{rank}.log" for rank in range(ranks)]
        self.processes = []
        for rank, log in enumerate(self.logs):
            local, disk = (0, place / f"disk-{rank}") if own_disks else (rank, place)
            disk.mkdir(exist_ok=True)
            env = environment(place, RANK=str(rank), LOCAL_RANK=str(local), OMP_NUM_THREADS="1", **together)
            with log.open("w") as output:
                self.processes.append(
                    subprocess.Popen(command, cwd=disk, env=env, stdout=output, stderr=subprocess.STDOUT)
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


@pytest.mark.long
@pytest.mark.training
@pytest.mark.parametrize(("method", "strategy"), [("full", "ddp"), ("lora", "zero2"), ("qlora", "zero3")])
def test_what_was_killed_goes_on_from_what_each_host_has(place: Path, method: str, strategy: str) -> None:
    words = ("--method", method, "--strategy", strategy, "--save_every", "6", "--lr", "1e-3")
    name = f"{method}-{strategy}"
    whole = Ranks(place, f"{name}-whole", *words, own_disks=True)
    assert whole.codes() == [0, 0], whole.said()
    killed = Ranks(place, f"{name}-killed", *words, own_disks=True)
    killed.signal_at(14, signal.SIGKILL, 0, 1)
    assert killed.codes() == [-signal.SIGKILL] * 2
    resumed = Ranks(place, f"{name}-killed", *words, "--resume", "auto", own_disks=True)
    assert resumed.codes() == [0, 0], resumed.said()
    assert "resumed checkpoint-" in resumed.said() and "not an exact" not in resumed.said()
    wanted, first, second = whole.losses(), killed.losses(), resumed.losses()
    assert {**first, **second} == wanted and {**second, **first} == wanted and min(second) > 6
    (weights,) = {path.name for path in (place / "disk-0" / f"{name}-whole").glob("*.safetensors")}
    saved = [(place / "disk-0" / f"{name}-{how}" / weights).read_bytes() for how in ("whole", "killed")]
    assert saved[0] == saved[1]


@pytest.mark.long
@pytest.mark.training
def test_another_number_of_ranks_keeps_the_steps_and_passes_over_what_is_torn(place: Path) -> None:
    words = ("--save_every", "6", "--keep", "9")
    killed = Ranks(place, "two", *words)
    killed.signal_at(14, signal.SIGKILL, 0, 1)
    killed.codes()
    newest, older = sorted(
        (path.parent for path in (place / "two").glob("*/complete.json")),
        key=lambda path: int(path.name.partition("-")[2]),
        reverse=True,
    )[:2]
    optimizer = newest / "optimizer.pt"
    optimizer.write_bytes(optimizer.read_bytes()[:1000])
    resume = (*words, "--resume", "auto")
    other = Ranks(place, "two", *resume, ranks=1)
    assert other.codes() == [64]
    assert "4 conversations are a step there, and 2 in this run" in other.said()
    assert "hint: --gas 2 makes them equal" in other.said()
    alone = Ranks(place, "two", *resume, "--gas", "2", ranks=1)
    assert alone.codes() == [0], alone.said()
    assert f"{newest.name} is passed over: " in alone.said() and "optimizer.pt has 1,000 of" in alone.said()
    assert f"resumed {older.name}\nnot an exact continuation: ranks was 2, now 1" in alone.said()
    both = killed.losses().keys() & alone.losses().keys()
    assert both and all(
        abs(float(killed.losses()[step]) - float(alone.losses()[step])) <= 2e-3 for step in both
    )
