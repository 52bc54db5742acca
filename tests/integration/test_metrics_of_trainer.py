"""The callback for transformers on two hosts: a run's metrics are what the Trainer itself wrote down."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clusterctl.sandbox import Sandbox
from clusterctl.store.metrics import read_steps
from tests.integration.launching import launch

pytest.importorskip("transformers")
pytestmark = [pytest.mark.sandbox, pytest.mark.training, pytest.mark.long]

SCRIPT = """
import torch
from clusterctl import metrics
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

torch.manual_seed(0)
model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=16, vocab_size=64, n_positions=16))
data = [{"input_ids": (row := torch.randint(0, 64, (16,))), "labels": row} for _ in range(64)]
options = TrainingArguments(
    "out", per_device_train_batch_size=2, max_steps=12, logging_steps=3, eval_strategy="steps", eval_steps=6,
    save_strategy="no", report_to="none", use_cpu=True, disable_tqdm=True,
)
callbacks = [metrics.TrainerMetrics()]
trainer = Trainer(model, options, train_dataset=data, eval_dataset=data[:8], callbacks=callbacks)
trainer.train()
trainer.save_state()
"""


def test_the_metrics_of_a_run_agree_with_the_state_of_the_trainer(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    found = launch(sandbox, "train.py", cwd=tmp_path, options=["-n", "2", "--gpus-per-node", "1", "--force"])
    assert found.code == 0, found.text
    (state,) = sandbox.hosts[0].home.rglob("trainer_state.json")
    history = json.loads(state.read_text())["log_history"]
    wanted = {each["step"]: each for each in history if "loss" in each}
    evaluated = {each["step"]: each["eval_loss"] for each in history if "eval_loss" in each}
    assert sorted(wanted) == [3, 6, 9, 12] and sorted(evaluated) == [6, 12]
    steps = {step.step: step for step in read_steps(found.run)}
    assert sorted(steps) == [3, 6, 9, 12]
    for number, step in steps.items():
        its = wanted[number]
        assert step.source == "metrics"
        assert step.loss == pytest.approx(its["loss"], rel=1e-5)
        assert step.lr == pytest.approx(its["learning_rate"], rel=1e-5)
        assert step.grad_norm == pytest.approx(its["grad_norm"], rel=1e-5)
        assert (step.eval_loss is None) == (number not in evaluated)
        assert number not in evaluated or step.eval_loss == pytest.approx(evaluated[number], rel=1e-5)
