from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

TRAIN = Path(__file__).resolve().parents[1] / "train"
sys.path.insert(0, str(TRAIN))

import dsconfig  # noqa: E402
from arguments import STRATEGIES, parse  # noqa: E402
from errors import UserError  # noqa: E402
from pretrain import main  # noqa: E402


def complete(config: dict[str, Any], *argv: str, world_size: int = 2) -> dict[str, Any]:
    return dsconfig.complete(config, parse(list(argv)), world_size=world_size)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--bogus"], "--bogus"),
        (["--n_layer", "six"], "six"),
        (["--n_layer", "0"], "--n_layer is 0"),
        (["--d_model", "256", "--n_head", "3"], "does not divide into 3 heads"),
        (["--lr", "-1"], "--lr is -1"),
        (["--lr", "inf"], "--lr is inf"),
        (["--lr", "nan"], "--lr is nan"),
        (["--weight_decay", "nan"], "--weight_decay is nan"),
        (["--dropout", "1"], "--dropout is 1"),
        (["--dropout", "nan"], "--dropout is nan"),
        (["--zero_stage", "4"], "4"),
        (["--save_every", "5"], "--save_every without --save_dir"),
        (["--eval_every", "5", "--eval_batches", "0"], "--eval_every with --eval_batches 0"),
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


@pytest.mark.parametrize(
    ("config", "argv", "batch"),
    [
        ({}, [], (4, 1)),
        ({"train_batch_size": 64}, [], (32, 1)),
        ({"train_batch_size": 64, "gradient_accumulation_steps": 1}, [], (32, 1)),
        ({"train_batch_size": 64, "train_micro_batch_size_per_gpu": 4}, [], (4, 8)),
        ({"train_batch_size": 64}, ["--micro_batch", "16"], (16, 2)),
        ({"train_batch_size": 64, "gradient_accumulation_steps": 2}, ["--gas", "4"], (8, 4)),
    ],
)
def test_what_the_batch_leaves_open_is_inferred(
    config: dict[str, Any], argv: list[str], batch: tuple[int, int]
) -> None:
    settled = complete(config, *argv)
    assert (settled["train_micro_batch_size_per_gpu"], settled["gradient_accumulation_steps"]) == batch


def test_a_batch_that_does_not_divide_is_refused_with_what_would() -> None:
    with pytest.raises(UserError, match="32 per rank x 1 accumulated x 2 ranks = 64") as caught:
        complete({"train_batch_size": 65})
    assert caught.value.hint.startswith("leave train_batch_size out")
    with pytest.raises(UserError) as caught:
        complete({"train_batch_size": 64}, "--micro_batch", "5")
    assert caught.value.hint.startswith("give --micro_batch 32 --gas 1 (their product has to be 32)")


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


@pytest.mark.parametrize(
    ("stage", "sizes"),
    [
        (0, set()),
        (1, {"allgather_bucket_size", "reduce_bucket_size"}),
        (
            3,
            {
                "reduce_bucket_size",
                "stage3_prefetch_bucket_size",
            },
        ),
    ],
)
def test_buffers_suit_the_device_unless_the_file_says(stage: int, sizes: set[str]) -> None:
    config: dict[str, Any] = {"zero_optimization": {"stage": stage}}
    dsconfig.set_sizes(config, on_cpu=True)
    assert config["zero_optimization"].keys() - {"stage"} == sizes
    dsconfig.set_sizes(config, on_cpu=False)
    assert config["zero_optimization"].get("reduce_bucket_size", 5_000_000) == 5_000_000
    on_gpu: dict[str, Any] = {"zero_optimization": {"stage": stage}}
    dsconfig.set_sizes(on_gpu, on_cpu=False)
    assert on_gpu["zero_optimization"].get("reduce_bucket_size", 50_000_000) == 50_000_000


def test_a_size_names_a_model_and_arguments_alter_it() -> None:
    assert (parse([]).n_layer, parse([]).d_model, parse([]).seq_len) == (4, 256, 128)
    large = parse(["--size", "1.3b", "--seq_len", "512"])
    assert (large.n_layer, large.d_model, large.n_head, large.seq_len) == (24, 2048, 16, 512)
    assert large.vocab_multiple == 128 and parse([]).vocab_multiple == 1
    with pytest.raises(UserError, match="13b"):
        parse(["--size", "13b"])


def test_adam_needs_no_compiler_unless_asked() -> None:
    params = complete({})["optimizer"]["params"]
    assert params["torch_adam"] is True and params["fused"] is True
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
    assert settled["scheduler"]["params"] == {"warmup_num_steps": 10, "warmup_max_lr": 3e-4}


def test_one_auto_leaves_the_rest_of_the_scheduler_as_it_was_written() -> None:
    params = {
        "warmup_min_lr": 1e-5,
        "warmup_max_lr": "auto",
        "warmup_num_steps": 7,
        "total_num_steps": "auto",
    }
    config = {"scheduler": {"type": "WarmupDecayLR", "params": params}}
    settled = complete(config, "--lr", "2e-4", "--steps", "50")["scheduler"]["params"]
    assert settled == {
        "warmup_min_lr": 1e-5,
        "warmup_max_lr": 2e-4,
        "warmup_num_steps": 7,
        "total_num_steps": 50,
    }


@pytest.mark.parametrize(
    ("scheduler", "argv", "says"),
    [
        (("WarmupLR", {"warmup_max_lr": 1e-3}), ["--lr", "3e-4"], "--lr is 0.0003"),
        (("WarmupLR", {"warmup_num_steps": 5}), ["--warmup", "6"], "--warmup is 6"),
        (("WarmupLR", {}), ["--lr_decay_steps", "6"], "--lr_decay_steps has no place"),
        (("OneCycle", {}), ["--lr", "3e-4"], "--lr has no place in the OneCycle"),
        (("OneCycle", {"cycle_max_lr": "auto"}), [], "cycle_max_lr"),
    ],
)
def test_an_argument_against_the_scheduler_of_the_file_is_refused(
    scheduler: tuple[str, dict[str, Any]], argv: list[str], says: str
) -> None:
    config = {"scheduler": {"type": scheduler[0], "params": scheduler[1]}}
    with pytest.raises(UserError, match=says):
        complete(config, *argv)


@pytest.mark.parametrize(
    ("zero", "argv", "says"),
    [
        (
            {"stage": 2, "offload_optimizer": {"device": "cpu"}},
            ["--zero_stage", "0"],
            "offload_optimizer has no",
        ),
        ({"stage": 2, "offload_param": {"device": "cpu"}}, [], "offload_param has no effect in ZeRO stage 2"),
        ({"stage": 2, "offload_optimizer": {"device": "nvme"}}, [], "nvme needs ZeRO stage 3"),
    ],
)
def test_what_would_have_no_effect_is_refused(zero: dict[str, Any], argv: list[str], says: str) -> None:
    with pytest.raises(UserError, match=says):
        complete({"zero_optimization": zero}, *argv)
    with pytest.raises(UserError, match="activation_checkpointing") as caught:
        complete({"activation_checkpointing": {"cpu_checkpointing": True}})
    assert caught.value.hint.endswith("give --activation_checkpointing")
    assert complete({"activation_checkpointing": {"partition_activations": False}})
    assert complete({"zero_optimization": {"offload_param": {"device": "none"}}})


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ds.json"
    path.write_text('{"zero_optimization": {"stage": 1, "stage": 2}}')
    with pytest.raises(UserError, match="the key stage twice"):
        dsconfig.read(str(path))


@pytest.mark.parametrize(
    ("wrong", "says", "hint"),
    [
        ({"gradient_cliping": 1.0}, "no setting gradient_cliping", "write gradient_clipping"),
        (
            {"zero_optimization": {"stage": 2, "overlap_com": True}},
            "no setting overlap_com,",
            "write overlap_comm",
        ),
        (
            {"flops_profiler": {"enabled": False, "profile_stp": 3}},
            "no setting flops_profiler.profile_stp",
            "write flops_profiler.profile_step",
        ),
        (
            {"zero_optimization": {"stage": 2, "reduce_bucket_size": "big"}},
            "valid integer",
            "correct that key",
        ),
        ({"aio": 5}, "aio of the ds_config is no object", 'write "aio": {}'),
    ],
)
def test_a_setting_that_deepspeed_would_not_heed_is_refused(
    wrong: dict[str, Any], says: str, hint: str
) -> None:
    pytest.importorskip("deepspeed")
    known = {
        "flops_profiler": {"enabled": False, "profile_step": 1},
        "wall_clock_breakdown": False,
        "train_batch_size": 4,
        "checkpoint": {"use_node_local_storage": True},
        "aio": {"block_size": 1 << 20},
    }
    dsconfig.validate(known)
    with pytest.raises(UserError, match=says) as caught:
        dsconfig.validate({**known, **wrong})
    assert caught.value.hint == hint and "http" not in caught.value.message


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_strategy_is_a_shipped_config_and_ddp_is_none(strategy: str) -> None:
    name = parse(["--strategy", strategy]).ds_config
    if strategy == "ddp":
        assert name is None
        return
    config = dsconfig.read(name)
    zero = config["zero_optimization"]
    assert zero["stage"] == int(strategy[4])
    device = strategy.rpartition("-")[2].replace("offload", "cpu") if "-" in strategy else "none"
    assert zero.get("offload_optimizer", {}).get("device", "none") == device
    settled = complete(config, *(["--nvme_path", "/disk"] if device == "nvme" else []))
    offloaded = settled["zero_optimization"].get("offload_param", {})
    assert (offloaded.get("nvme_path") == "/disk") == (device == "nvme")
    # The batch, the clipping and the optimizer are those of every other strategy.
    plain = {key: value for key, value in settled.items() if key != "zero_optimization"}
    assert plain == {key: value for key, value in complete({}).items() if key != "zero_optimization"}


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--strategy", "zero2", "--ds_config", "zero3"], "--strategy and --ds_config"),
        (["--strategy", "ddp", "--zero_stage", "2"], "--zero_stage 2 beside --strategy ddp"),
        (["--strategy", "fsdp"], "fsdp"),
    ],
)
def test_two_answers_to_one_question_are_refused(argv: list[str], says: str) -> None:
    with pytest.raises(UserError, match=says):
        parse(argv)


def test_the_optimizer_and_the_clipping_may_be_argued() -> None:
    sgd = complete({}, "--optimizer", "sgd", "--grad_clip", "0.5")
    assert sgd["optimizer"]["type"] == "SGD" and sgd["optimizer"]["params"]["momentum"] == 0.9
    assert sgd["gradient_clipping"] == 0.5
    assert complete({"gradient_clipping": 2.0})["gradient_clipping"] == 2.0
    assert complete({"optimizer": {"type": "adamw"}}, "--optimizer", "adamw")["optimizer"]["type"] == "adamw"
    with pytest.raises(UserError, match="--optimizer is sgd, and the ds_config has Lion"):
        complete({"optimizer": {"type": "Lion"}}, "--optimizer", "sgd")
    with pytest.raises(UserError, match="nothing is offloaded to nvme"):
        complete({}, "--nvme_path", "/disk")


def test_deepspeed_takes_the_file_too() -> None:
    assert parse([]).ds_config == "zero2"
    assert parse(["--deepspeed", "mine.json"]).ds_config == "mine.json"
    assert parse(["--deepspeed", "--deepspeed_config", "mine.json"]).ds_config == "mine.json"
    with pytest.raises(UserError, match="two files"):
        parse(["--deepspeed", "one.json", "--ds_config", "two.json"])


def test_an_optimizer_of_torch_gets_what_is_given() -> None:
    settled = complete({"optimizer": {"type": "SGD", "params": {"momentum": 0.9}}}, "--weight_decay", "0.2")
    assert settled["optimizer"]["params"] == {"momentum": 0.9, "lr": 1e-3, "weight_decay": 0.2}
    assert settled["zero_allow_untested_optimizer"] is True
    with pytest.raises(UserError, match="lr 'fast'"):
        complete({"optimizer": {"params": {"lr": "fast"}}})


def test_dtype_comes_from_the_argument_then_from_the_file() -> None:
    assert dsconfig.requested_dtype({"fp16": {"enabled": True}}, "auto") == "fp16"
    assert dsconfig.requested_dtype({"fp16": {"enabled": True}}, "bf16") == "bf16"
    assert dsconfig.requested_dtype({"bf16": {"enabled": "auto"}}, "auto") == "auto"
    with pytest.raises(UserError, match="both"):
        dsconfig.requested_dtype({"fp16": {"enabled": True}, "bf16": {"enabled": True}}, "auto")
    config: dict[str, dict[str, object]] = {"fp16": {"enabled": "auto", "loss_scale": 0}}
    dsconfig.set_dtype(config, "fp16")
    assert config == {"fp16": {"enabled": True, "loss_scale": 0}, "bf16": {"enabled": False}}
