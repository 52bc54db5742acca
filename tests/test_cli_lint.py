"""`clusterctl lint`: what is typed, what is seen, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clusterctl.errors import UsageError
from clusterctl.session.lint import lint
from clusterctl.settings import LINT
from tests.test_cli_main import call

WRONG = json.dumps(
    {"train_batch_size": 64, "train_micro_batch_size_per_gpu": 4, "gradient_accumulation_steps": 1}, indent=2
)


def test_a_config_that_would_fail_is_shown_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "ds.json").write_text(WRONG)
    done = call(tmp_path, "lint", "ds.json", "--nodes", "2", "--gpus-per-node", "2")
    assert done.returncode == 1, done.stderr
    words = " ".join(done.stdout.split())
    assert (
        "ds.json:2: train_batch_size is 64, but 4 (micro batch) x 1 (accumulation) x 4 (ranks) is 16" in words
    )
    assert '"gradient_accumulation_steps": 4 keeps train_batch_size 64' in words
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_ranks_are_those_of_the_hostfile(tmp_path: Path) -> None:
    (tmp_path / "ds.json").write_text(WRONG)
    (tmp_path / "hosts").write_text("gpu1 slots=8\ngpu2 slots=8\n")
    done = call(tmp_path, "lint", "ds.json", "-H", "hosts", "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, told["schema"], told["verdict"]) == (0, "clusterctl.lint/1", "pass")
    assert (told["ranks"], told["findings"]) == (16, [])


def test_a_file_that_is_not_there_is_wrong_usage(tmp_path: Path) -> None:
    done = call(tmp_path, "lint", "missing.json")
    assert done.returncode == 64
    assert done.stderr.splitlines()[0] == "error: missing.json cannot be read: No such file or directory"


def test_what_is_no_config_is_a_finding_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "ds.json").write_text('{\n "a": \n}')
    [found] = lint(str(tmp_path / "ds.json")).failing
    assert (found.line, found.finding.code) == (3, "ds.json")
    assert found.finding.observed == 'a value is expected, there is "}"'


def test_auto_somewhere_means_trainer(tmp_path: Path) -> None:
    (tmp_path / "ds.json").write_text(
        '{"train_batch_size": "auto", "gradient_clipping": 0.5, "zero_optimization": {"stage": 2}}'
    )
    found = lint(str(tmp_path / "ds.json"), arguments=("--max_grad_norm", "1.0"))
    assert found.reader == "transformers"
    assert found.failing[0].finding.observed.endswith("and the script gets --max_grad_norm 1.0")


def test_what_is_no_text_is_wrong_usage(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "large").write_bytes(b" " * (LINT.max_bytes + 1))
    for name in ("binary", "large", "."):
        with pytest.raises(UsageError):
            lint(str(tmp_path / name))


def test_arguments_of_the_trainer_mean_trainer(tmp_path: Path) -> None:
    (tmp_path / "ds.json").write_text('{"train_micro_batch_size_per_gpu": 4, "zero_optimization": {}}')
    found = lint(str(tmp_path / "ds.json"), arguments=("--per_device_train_batch_size", "8"))
    assert found.reader == "transformers" and [each.finding.code for each in found.failing] == ["ds.mismatch"]
    assert lint(str(tmp_path / "ds.json"), arguments=("--learning_rate", "8")).reader == "deepspeed"
