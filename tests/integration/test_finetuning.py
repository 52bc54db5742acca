"""Fine-tuning over two hosts with disks of their own, to a model that plain transformers loads."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

for package in ("deepspeed", "peft"):
    pytest.importorskip(package)

from clusterctl.sandbox import Sandbox  # noqa: E402
from tests.integration.launching import Launch, start  # noqa: E402
from tests.tiny_models import save_model, save_pairs  # noqa: E402

TRAIN = Path(__file__).resolve().parents[2] / "train"
PATIENCE = 500
TUNE = ("train/sft.py", "--model", "model", "--data", "pairs.jsonl", "--save_dir", "tuned", "--lr", "1e-2")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(TRAIN, folder / "train", ignore=shutil.ignore_patterns("corpus", "__pycache__"))
    save_model(folder / "model")
    save_pairs(folder / "pairs.jsonl")
    return folder


def tune(sandbox: Sandbox, project: Path, *words: str) -> Launch:
    found = start(sandbox, *words, cwd=project, options=["-n", "2", "--gpus-per-node", "1"])
    found.text, _ = found.process.communicate(timeout=PATIENCE)
    return found


@pytest.mark.sandbox
@pytest.mark.training
def test_an_adapter_is_learned_under_zero3_brought_home_and_merged(
    sandbox: Sandbox, project: Path, tmp_path: Path
) -> None:
    words = (*TUNE, "--strategy", "zero3", "--steps", "4", "--save_every", "2")
    found = tune(sandbox, project, *words)
    assert found.code == 0, found.text
    said = found.log("node1", 0)
    assert "ZeRO stage 3 (zero3.json)" in said and "opened again, finite and changed" in said
    steps = {}
    for line in (found.run / "metrics.jsonl").read_text().splitlines():
        told = json.loads(line)
        steps[told["step"]] = told
    # The evaluation before the first step may be read from the log.
    steps.pop(0, None)
    assert list(steps) == [1, 2, 3, 4] and steps[4]["loss"] < steps[1]["loss"]
    assert all(told["ranks"] == 2 and told["tokens"] > 0 and told["lr"] > 0 for told in steps.values())

    pull = [sys.executable, "-m", "clusterctl", "pull", found.run.name, "tuned", "--to", str(tmp_path)]
    assert subprocess.run(pull, cwd=project, timeout=PATIENCE, check=False).returncode == 0
    # Only rank 0 has the weights in one piece; what another host wrote in their place would be empty.
    assert not list((tmp_path / "node2").rglob("*.safetensors"))
    assert list((tmp_path / "node2").rglob("*optim_states.pt"))
    adapter = tmp_path / "node1" / "tuned"
    merged = tmp_path / "merged"
    ask = [
        sys.executable,
        str(project / "train/generate.py"),
        "--adapter",
        str(adapter),
        "--merge",
        str(merged),
    ]
    ask += ["--model", str(project / "model"), "--max_new_tokens", "4", "question number 3"]
    answered = subprocess.run(ask, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert answered.returncode == 0, answered.stderr
    assert "opened again, finite and changed" in answered.stdout

    from transformers import AutoModelForCausalLM, AutoTokenizer

    whole = AutoModelForCausalLM.from_pretrained(merged)
    words_of = AutoTokenizer.from_pretrained(merged)
    assert "### Assistant:" in words_of.chat_template
    assert whole.generation_config.eos_token_id == words_of.eos_token_id
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"} <= {
        path.name for path in merged.iterdir()
    }


@pytest.mark.sandbox
@pytest.mark.training
def test_bad_data_ends_all_ranks_before_the_model_is_loaded(sandbox: Sandbox, project: Path) -> None:
    (project / "bad.jsonl").write_text('{"prompt": "a", "response": "b"}\n{"prompt": "a"}\n')
    words = ("train/sft.py", "--model", "model", "--data", "bad.jsonl", "--save_dir", "none")
    found = tune(sandbox, project, *words)
    assert found.code == 64, found.text
    assert "sft.py: bad.jsonl line 2: no 'response', only prompt" in found.log("node1", 0)
    assert "sft.py" not in found.log("node2", 1)
