"""What widespread tutorials tell people to write, and the sentence that they get for it here.

docs/coming-from-tutorials.md has the same claims for readers.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from clusterctl.advise.lint.case import Reader
from tests.test_advise_lint import lint


class Tutorial(msgspec.Struct, frozen=True, kw_only=True):
    """``config`` as it stands there; ``said`` is part of the first thing that lint says of it."""

    config: str | dict[str, Any]
    said: str
    severity: str = "fail"
    fix: str = ""
    ranks: int | None = 1
    reader: Reader = "deepspeed"
    arguments: str = ""


SIZES = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps")
ADAMW = {"type": "AdamW", "params": {"lr": 5e-5, "weight_decay": 0.01}}
TRAINER = {
    "train_batch_size": "auto",
    "train_micro_batch_size_per_gpu": "auto",
    "zero_optimization": {"stage": 2},
}


def sizes(*values: int) -> dict[str, Any]:
    return dict(zip(SIZES, values, strict=True))


def stage(number: int, **others: Any) -> dict[str, Any]:
    return {"train_micro_batch_size_per_gpu": 1, "zero_optimization": {"stage": number, **others}}


CASES: dict[str, Tutorial] = {
    "a batch for one rank on four": Tutorial(
        config=sizes(32, 4, 8),
        ranks=4,
        said="train_batch_size is 32, but 4 (micro batch) x 8 (accumulation) x 4 (ranks) is 128",
        fix='"train_batch_size": 128',
    ),
    "a batch for four ranks on two": Tutorial(
        config=sizes(32, 4, 2),
        ranks=2,
        said="4 (micro batch) x 2 (accumulation) x 2 (ranks) is 16",
        fix='"gradient_accumulation_steps": 4 keeps train_batch_size 32',
    ),
    "a batch whose ranks nobody named": Tutorial(
        config=sizes(32, 4, 2), ranks=None, severity="info", said="holds for 4 ranks only"
    ),
    "a batch too small for two hosts": Tutorial(
        config={"train_batch_size": 8, "gradient_accumulation_steps": 8},
        ranks=2,
        said="train_batch_size 8 cannot be N x 8 (accumulation) x 2 (ranks)",
    ),
    "a weight decay that TrainingArguments do not have": Tutorial(
        config={**TRAINER, "optimizer": ADAMW},
        reader="transformers",
        severity="warn",
        said="optimizer.params.weight_decay is 0.01; transformers' weight_decay is 0",
        fix='"weight_decay": "auto"',
    ),
    "no ZeRO for transformers": Tutorial(
        config={"train_micro_batch_size_per_gpu": "auto"},
        reader="transformers",
        said="zero_optimization is not there, without which transformers takes no config",
    ),
    "a weight decay that the arguments contradict": Tutorial(
        config={**TRAINER, "optimizer": ADAMW},
        reader="transformers",
        arguments="--weight_decay 0.0",
        said="weight_decay is 0.01, and the script gets --weight_decay 0.0",
    ),
    "a warm-up that TrainingArguments do not have": Tutorial(
        config={**TRAINER, "scheduler": {"type": "WarmupLR", "params": {"warmup_num_steps": 100}}},
        reader="transformers",
        arguments="--warmup_steps 1",
        said="warmup_num_steps is 100, and the script gets --warmup_steps 1",
    ),
    "a comment for transformers": Tutorial(
        config='{\n"train_batch_size": "auto",  // as usual\n"zero_optimization": {"stage": 2}\n}',
        reader="transformers",
        said="which transformers' JSON reader does not take",
    ),
    "checkpointing of DeepSpeed for a model of transformers": Tutorial(
        config={**TRAINER, "activation_checkpointing": {"partition_activations": True}},
        reader="transformers",
        severity="warn",
        said="activation_checkpointing does nothing for a model of transformers",
        fix="--gradient_checkpointing true",
    ),
    "a timeout that there is not": Tutorial(
        config={**stage(2), "communication_timeout": 1800},
        severity="warn",
        said='DeepSpeed has no "communication_timeout" and ignores it',
        fix="--ddp_timeout SECONDS",
    ),
    "offloaded gradients": Tutorial(
        config=stage(2, offload_gradients={"device": "cpu"}),
        said='zero_optimization has no "offload_gradients"',
        fix="gradients go with offload_optimizer",
    ),
    "offloaded parameters in stage 2": Tutorial(
        config=stage(2, offload_param={"device": "cpu"}),
        severity="warn",
        said="offload_param does nothing at ZeRO stage 2",
    ),
    "NVMe in stage 2": Tutorial(
        config={
            **stage(2, offload_optimizer={"device": "nvme", "nvme_path": "/nvme"}),
            "optimizer": ADAMW,
        },
        severity="warn",
        said="offload to NVMe is of ZeRO stage 3 only",
    ),
    "auto without transformers": Tutorial(
        config={"train_batch_size": "auto", "optimizer": ADAMW},
        said='train_batch_size is "auto"',
    ),
    "auto inside zero_optimization": Tutorial(
        config=stage(2, reduce_bucket_size="auto"), severity="warn", said="here its default is used"
    ),
    "auto where transformers has nothing to fill in": Tutorial(
        config={**TRAINER, "zero_optimization": {"stage": 3, "stage3_max_live_parameters": "auto"}},
        reader="transformers",
        said='stage3_max_live_parameters is "auto", which neither transformers nor accelerate fills in',
    ),
    "a scheduler beside another of the arguments": Tutorial(
        config={**TRAINER, "scheduler": {"type": "WarmupLR", "params": {"warmup_num_steps": "auto"}}},
        reader="transformers",
        severity="warn",
        arguments="--lr_scheduler_type cosine",
        said="--lr_scheduler_type cosine does nothing",
    ),
    "compressed gradients": Tutorial(
        config={**stage(2), "gradient_compression": {"enabled": True}},
        severity="warn",
        said='DeepSpeed has no "gradient_compression" and ignores it',
        fix="ZeRO++ quantizes at stage 3",
    ),
    "1-bit Adam under ZeRO": Tutorial(
        config={**stage(2), "optimizer": {"type": "OneBitAdam", "params": {"lr": 1e-4}}},
        said="the 1-bit optimizers were removed, and never went with ZeRO",
    ),
    "a rate beside the parameters": Tutorial(
        config={**stage(0), "optimizer": {"type": "AdamW", "lr": 1e-5}},
        severity="warn",
        said='optimizer has no "lr" and ignores it without a word',
        fix="it belongs inside optimizer.params",
    ),
    "a schedule without an end": Tutorial(
        config={**stage(1), "scheduler": {"type": "WarmupDecayLR", "params": {"warmup_num_steps": 10}}},
        said="WarmupDecayLR without total_num_steps",
    ),
    "fp16 beside bf16": Tutorial(
        config={**stage(1), "fp16": {"enabled": True}, "bf16": {"enabled": True}},
        ranks=2,
        said="fp16 and bf16 are both enabled",
    ),
    "ZeRO on one GPU": Tutorial(
        config=stage(2), severity="info", said="with one rank ZeRO stage 2 has nothing to shard"
    ),
    "documented, and not there": Tutorial(
        config=stage(3, grad_hooks=True), said='zero_optimization has no "grad_hooks"'
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_it_gets_the_right_sentence(name: str) -> None:
    case = CASES[name]
    remarks = lint(case.config, ranks=case.ranks, reader=case.reader, arguments=case.arguments.split())
    found = [each.finding for each in remarks if case.said in each.finding.observed]
    assert [each.severity for each in found] == [case.severity], [each.finding.observed for each in remarks]
    assert case.fix in found[0].fix


RIGHT: dict[str, dict[str, Any]] = {
    "fp16 keys that look wrong": {
        **stage(1),
        "fp16": {"enabled": True, "auto_cast": False, "consecutive_hysteresis": False},
    },
    "offload in stage 1": {**stage(1, offload_optimizer={"device": "cpu"}), "optimizer": ADAMW},
    "a comment for DeepSpeed": sizes(8, 4, 1),
}


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_passes(name: str) -> None:
    assert not [each for each in lint(RIGHT[name], ranks=2) if each.finding.severity in ("fail", "warn")]
