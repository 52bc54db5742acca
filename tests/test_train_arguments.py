from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

TRAIN = Path(__file__).resolve().parents[1] / "train"
sys.path.insert(0, str(TRAIN))

import dsconfig  # noqa: E402
from arguments import parse  # noqa: E402
from errors import UserError  # noqa: E402
from pretrain import main  # noqa: E402


def complete(config: dict[str, Any], *argv: str, world_size: int = 2) -> dict[str, Any]:
    return dsconfig.complete(config, parse(list(argv)), on_cpu=True, world_size=world_size)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--bogus"], "--bogus"),
        (["--n_layer", "six"], "six"),
        (["--n_layer", "0"], "--n_layer is 0"),
        (["--d_model", "256", "--n_head", "3"], "does not divide into 3 heads"),
        (["--d_model", "12", "--n_head", "4"], "width 3"),
        (["--lr", "-1"], "--lr is -1"),
        (["--lr", "inf"], "--lr is inf"),
        (["--lr", "nan"], "--lr is nan"),
        (["--weight_decay", "nan"], "--weight_decay is nan"),
        (["--dropout", "1"], "--dropout is 1"),
        (["--dropout", "nan"], "--dropout is nan"),
        (["--zero_stage", "4"], "4"),
        (["--save_every", "5"], "--save_every without --save_dir"),
        (["--resume", "auto"], "--resume auto without --save_dir"),
    ],
)
def test_a_wrong_argument_ends_with_64_a_sentence_and_a_hint(
    argv: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 64
    said = capsys.readouterr().err
    assert says in said.splitlines()[0]
    assert said.splitlines()[1].startswith("hint: ")
    assert "Traceback" not in said


def test_only_the_first_rank_speaks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "3")
    assert main(["--bogus"]) == 64
    assert capsys.readouterr().err == ""


def test_the_rate_decays_over_all_steps_unless_told() -> None:
    assert parse(["--steps", "7"]).lr_decay_steps == 7
    assert parse(["--steps", "3", "--lr_decay_steps", "9"]).lr_decay_steps == 9


@pytest.mark.parametrize("path", sorted((TRAIN / "configs").glob("*.json")), ids=lambda path: path.stem)
def test_shipped_configs_name_no_world_size(path: Path) -> None:
    config = dsconfig.read(str(path))
    assert config == dsconfig.read(path.stem)
    assert "train_batch_size" not in config
    assert config["train_micro_batch_size_per_gpu"] >= 1 and config["gradient_accumulation_steps"] >= 1
    assert config["zero_optimization"].get("reduce_bucket_size", 0) <= 5_000_000


def test_an_unknown_config_names_those_that_exist() -> None:
    with pytest.raises(UserError) as caught:
        dsconfig.read("zero9")
    assert "zero2, zero2_offload, zero3" in caught.value.hint


def test_a_comment_in_the_config_is_found_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "ds.json"
    path.write_text('{\n  // stage two\n  "zero_optimization": {"stage": 2}\n}\n')
    with pytest.raises(UserError, match=r"ds\.json line 2") as caught:
        dsconfig.read(str(path))
    assert "comments" in caught.value.hint


def test_a_global_batch_of_another_world_size_is_refused() -> None:
    config = {"train_batch_size": 32, "train_micro_batch_size_per_gpu": 4, "gradient_accumulation_steps": 8}
    with pytest.raises(
        UserError, match=r"train_batch_size 32, but 4 per rank x 8 accumulated x 4 ranks = 128"
    ):
        complete(config, world_size=4)
    assert "train_batch_size" not in complete(config, world_size=1)


def test_arguments_come_before_the_file_and_the_file_before_defaults() -> None:
    config: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": 3,
        "gradient_accumulation_steps": 5,
        "optimizer": {"type": "AdamW", "params": {"lr": 0.5, "weight_decay": 0.25}},
        "zero_optimization": {"stage": 3},
    }
    from_file = complete(config)
    assert from_file["train_micro_batch_size_per_gpu"] == 3
    assert from_file["optimizer"]["params"]["lr"] == 0.5
    assert from_file["zero_optimization"]["stage"] == 3
    told = complete(config, "--micro_batch", "7", "--lr", "0.1", "--zero_stage", "1")
    assert told["train_micro_batch_size_per_gpu"] == 7
    assert told["gradient_accumulation_steps"] == 5
    assert told["optimizer"]["params"]["lr"] == 0.1
    assert told["optimizer"]["params"]["weight_decay"] == 0.25
    assert told["zero_optimization"]["stage"] == 1
    assert config["zero_optimization"]["stage"] == 3
    assert complete({})["zero_optimization"]["stage"] == 2


def test_adam_needs_no_compiler_unless_asked() -> None:
    assert complete({})["optimizer"]["params"]["torch_adam"] is True
    own = {"optimizer": {"type": "Adam", "params": {"torch_adam": False}}}
    assert "fused" not in complete(own)["optimizer"]["params"]


def test_auto_of_transformers_is_filled_in() -> None:
    config = {
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_clipping": "auto",
        "optimizer": {"type": "AdamW", "params": {"lr": "auto", "betas": "auto"}},
        "scheduler": {"type": "WarmupLR", "params": {"warmup_num_steps": "auto"}},
        "zero_optimization": {"stage": 2, "reduce_bucket_size": "auto"},
    }
    settled = complete(config, "--lr", "3e-4")
    assert "auto" not in json.dumps(settled)
    assert settled["optimizer"]["params"]["lr"] == 3e-4
    assert "scheduler" not in settled


def test_dtype_comes_from_the_argument_then_from_the_file() -> None:
    assert dsconfig.requested_dtype({"fp16": {"enabled": True}}, "auto") == "fp16"
    assert dsconfig.requested_dtype({"fp16": {"enabled": True}}, "bf16") == "bf16"
    assert dsconfig.requested_dtype({"bf16": {"enabled": "auto"}}, "auto") == "auto"
    with pytest.raises(UserError, match="both"):
        dsconfig.requested_dtype({"fp16": {"enabled": True}, "bf16": {"enabled": True}}, "auto")
    config: dict[str, dict[str, object]] = {"fp16": {"enabled": "auto", "loss_scale": 0}}
    dsconfig.set_dtype(config, "fp16")
    assert config == {"fp16": {"enabled": True, "loss_scale": 0}, "bf16": {"enabled": False}}
