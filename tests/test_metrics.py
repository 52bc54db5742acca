"""What a script tells of its steps through the module for it."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from clusterctl import metrics
from clusterctl.run.metrics.record import parse


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(metrics.VARIABLE, str(tmp_path / "metrics"))
    return tmp_path / "metrics"


def test_a_line_is_what_the_controller_reads(told: Path) -> None:
    metrics.log(step=1, loss=SimpleNamespace(item=lambda: math.inf), tokens=8, lr=None)
    metrics.log(step=2, loss=math.nan)
    first, second = map(parse, told.read_bytes().splitlines())
    assert first is not None and first.step == 1 and first.values == {"loss": math.inf, "tokens": 8}
    assert first.time is not None
    assert second is not None and math.isnan(second.values["loss"])
    assert "NaN" not in told.read_text()
    assert told.stat().st_mode & 0o777 == 0o600


def test_outside_of_a_run_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(metrics.VARIABLE, raising=False)
    metrics.log(step=1, loss=1.0)


def test_a_disk_that_takes_nothing_costs_the_line_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(metrics.VARIABLE, "/dev/full")
    metrics.log(step=1, loss=1.0)


def test_what_is_no_number_is_a_mistake_in_the_script(told: Path) -> None:
    with pytest.raises(TypeError, match="'high' is not a number"):
        metrics.log(step=1, loss="high")


def test_it_loads_nothing_of_clusterctl() -> None:
    code = "import sys, clusterctl.metrics; print([n for n in sys.modules if n.startswith('clusterctl.')])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "['clusterctl.metrics']"


class Tensor:
    """As transformers gives the norm of a model that is trained on several ranks."""

    def item(self) -> float:
        return 1.0


def test_a_trainer_tells_its_steps(told: Path) -> None:
    callback: Any = metrics.TrainerMetrics()
    state = SimpleNamespace(global_step=10, num_input_tokens_seen=1000)
    callback.on_train_begin(None, state, None, model=None)
    callback.on_log(
        SimpleNamespace(world_size=2),
        state,
        None,
        logs={"loss": 2.0, "learning_rate": 1e-4, "grad_norm": Tensor(), "epoch": 0.1, "note": "text"},
    )
    callback.on_log(None, state, None, logs={"eval_loss": 3.0})
    first, second = (json.loads(line) for line in told.read_text().splitlines())
    assert {name: first[name] for name in ("step", "loss", "lr", "grad_norm", "tokens")} == {
        "step": 10, "loss": 2.0, "lr": 1e-4, "grad_norm": 1.0, "tokens": 50,
    }  # fmt: skip
    assert second["step"] == 10 and second["eval_loss"] == 3.0 and "tokens" not in second


@pytest.mark.long
def test_transformers_takes_it_for_a_callback(told: Path) -> None:
    from transformers import TrainerControl, TrainerState, trainer_callback

    callback: Any = metrics.TrainerMetrics()
    theirs: Any = trainer_callback
    handler = theirs.CallbackHandler([callback], None, None, None, None)
    arguments, state, control = None, TrainerState(), TrainerControl()
    state.global_step = 3
    for event in (handler.on_init_end, handler.on_train_begin, handler.on_step_end, handler.on_train_end):
        event(arguments, state, control)
    handler.on_log(arguments, state, control, {"loss": 1.5})
    assert json.loads(told.read_text())["loss"] == 1.5
