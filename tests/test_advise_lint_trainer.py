"""A config beside the arguments of Trainer: what transformers 5.23 refused or left out when it got both."""

from __future__ import annotations

from typing import Any

import pytest

from tests.test_advise_lint import lint

AUTO = {
    "train_batch_size": "auto",
    "train_micro_batch_size_per_gpu": "auto",
    "gradient_accumulation_steps": "auto",
    "gradient_clipping": "auto",
}


def zero(**others: Any) -> dict[str, Any]:
    return {**AUTO, "zero_optimization": {"stage": 2, **others}}


def adamw(**params: Any) -> dict[str, Any]:
    return {**zero(), "optimizer": {"type": "AdamW", "params": {"lr": "auto", **params}}}


def scheduled(name: str, **params: Any) -> dict[str, Any]:
    return {**adamw(), "scheduler": {"type": name, "params": params}}


def without(key: str, config: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name != key}


SAID: list[tuple[dict[str, Any], str, str, str]] = [
    (zero(allgather_bucket_size="auto"), "", "fail", 'allgather_bucket_size is "auto", which neither'),
    (zero(zenflow={"select_strategy": "auto"}), "", "fail", "select_strategy"),
    ({**zero(), "wall_clock_breakdown": "auto"}, "", "fail", 'wall_clock_breakdown is "auto", which neither'),
    ({"zero_optimization": {}}, "", "fail", "neither train_batch_size nor train_micro_batch_size_per_gpu"),
    ({**AUTO, "zero_optimization": True}, "", "fail", "zero_optimization is no object, without which"),
    ({**zero(), "train_batch_size": 64}, "", "warn", "x 1 (gradient_accumulation_steps) x 2 (ranks) = 16"),
    (
        {"train_batch_size": 64, "zero_optimization": {}},
        "--per_device_train_batch_size 4 --gradient_accumulation_steps 2",
        "fail",
        "transformers has 4 (per_device_train_batch_size) x 2 (gradient_accumulation_steps) x 2 (ranks) = 16",
    ),
    (
        without("gradient_accumulation_steps", zero()),
        "--gradient_accumulation_steps 8",
        "fail",
        "--gradient_accumulation_steps 8, and the config has no gradient_accumulation_steps",
    ),
    (
        {"train_micro_batch_size_per_gpu": "auto", "zero_optimization": {}},
        "--gradient_accumulation_steps 8",
        "warn",
        "accelerate takes 1",
    ),
    (adamw(betas=[0.9, 0.95]), "", "warn", "betas is [0.9, 0.95], and transformers has [0.9, 0.999] unless"),
    (adamw(betas=[0.9, 0.95]), "--adam_beta2 0.98", "fail", "--adam_beta2 0.98, which makes it [0.9, 0.98]"),
    (
        scheduled("WarmupDecayLR", warmup_max_lr="auto", total_num_steps=500),
        "",
        "warn",
        "total_num_steps is 500, and transformers counts the steps itself",
    ),
    (
        scheduled("WarmupDecayLR", warmup_max_lr="auto", total_num_steps=500),
        "--max_steps 100",
        "fail",
        "total_num_steps is 500, and the script gets --max_steps 100",
    ),
    (
        scheduled("WarmupLR", warmup_num_steps=20),
        "--warmup_steps 0.1",
        "warn",
        "the script gets --warmup_steps 0.1, a part of steps that transformers counts itself",
    ),
    (
        without("gradient_accumulation_steps", {**zero(), "train_batch_size": 64}),
        "--per_device_train_batch_size 4 --gradient_accumulation_steps 8",
        "fail",
        "accelerate takes 1",
    ),
    (
        scheduled("WarmupLR", warmup_num_steps=20),
        "--warmup_steps 0.1 --max_steps 100",
        "fail",
        "warmup_num_steps is 20, and the script gets --warmup_steps 0.1",
    ),
    ({**zero(), "bf16": {"enabled": False}}, "--bf16_full_eval", "fail", "gets --bf16_full_eval true"),
    ({**zero(), "fp16": {"enabled": True}}, "--bf16", "fail", "fp16.enabled is true, and the script gets"),
    ({**zero(), "bf16": {}}, "--bf16", "warn", "--bf16 true does nothing: the config has no bf16.enabled"),
    (
        without("gradient_clipping", zero()),
        "--max_grad_norm 0.5",
        "warn",
        "--max_grad_norm 0.5 does nothing: the config has no gradient_clipping",
    ),
    (adamw(), "--weight_decay 0.1", "warn", "does nothing: the config has no optimizer.params.weight_decay"),
    (
        {**zero(), "optimizer": {"type": "AdamW", "params": {}}},
        "",
        "warn",
        "DeepSpeed takes its own default, not learning_rate 5e-05",
    ),
    (
        scheduled("WarmupDecayLR", total_num_steps="auto", warmup_num_steps="auto"),
        "--learning_rate 1e-4",
        "warn",
        "the config has no scheduler.params.warmup_max_lr",
    ),
    (
        scheduled("WarmupLR", warmup_num_steps="auto"),
        "--lr_scheduler_type cosine",
        "warn",
        '--lr_scheduler_type cosine does nothing: the config has the scheduler "WarmupLR"',
    ),
    (
        adamw(),
        "--optim adafactor",
        "warn",
        '--optim adafactor does nothing: the config has the optimizer "AdamW"',
    ),
]
TAKEN: list[tuple[dict[str, Any], str]] = [
    (zero(), "--per_device_train_batch_size 4 --gradient_accumulation_steps 8 --max_grad_norm 0.5"),
    (zero(reduce_bucket_size="auto", stage3_prefetch_bucket_size="auto", stage="auto"), ""),
    (zero(offload_optimizer={"device": "auto", "nvme_path": "auto"}), ""),
    ({**zero(), "steps_per_print": "auto"}, ""),
    ({**zero(), "fp16": {"enabled": "auto"}, "bf16": {"enabled": "auto"}}, "--bf16"),
    ({**zero(), "fp16": {"enabled": False}}, "--bf16"),
    ({**zero(), "bf16": {"enabled": True}}, "--bf16 true"),
    (adamw(betas="auto", eps="auto", weight_decay="auto"), "--adam_beta2 0.95 --weight_decay 0.1"),
    (adamw(betas=[0.9, 0.95]), "--adam_beta2 0.95"),
    (adamw(), "--optim adamw_torch_fused"),
    (without("gradient_clipping", zero()), "--max_grad_norm 1.0"),
    ({**zero(), "train_batch_size": 16}, ""),
    (
        {**zero(), "train_batch_size": 64},
        "--per_device_train_batch_size 4 --gradient_accumulation_steps 8",
    ),
    (scheduled("WarmupLR", warmup_num_steps=10), "--warmup_steps 0.1 --max_steps 100"),
    (scheduled("WarmupLR", warmup_num_steps="auto"), "--lr_scheduler_type constant_with_warmup"),
    (
        scheduled("WarmupDecayLR", warmup_max_lr="auto", total_num_steps=100, warmup_num_steps="auto"),
        "--max_steps 100 --lr_scheduler_type linear",
    ),
]


def said(config: dict[str, Any], arguments: str) -> list[tuple[str, str]]:
    found = [
        each.finding for each in lint(config, ranks=2, reader="transformers", arguments=arguments.split())
    ]
    return [(each.severity, each.observed) for each in found if each.severity in ("fail", "warn")]


@pytest.mark.parametrize(("config", "arguments", "severity", "sentence"), SAID)
def test_it_gets_a_sentence(config: dict[str, Any], arguments: str, severity: str, sentence: str) -> None:
    found = said(config, arguments)
    assert [severity for each, words in found if sentence in words] == [severity], found
    assert severity == "fail" or "fail" not in dict(found), found


@pytest.mark.parametrize(("config", "arguments"), TAKEN)
def test_nothing_is_said_of_it(config: dict[str, Any], arguments: str) -> None:
    assert not said(config, arguments)
