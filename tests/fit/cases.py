"""What is measured: models, strategies and numbers of ranks. The formulas were fitted to none of the
numbers of ranks but 2, and to neither `mistral` nor `wide`."""

from __future__ import annotations

from typing import Any

import msgspec

from clusterctl.advise.fit.config import ds_config
from clusterctl.advise.fit.job import STRATEGIES, Job, Strategy
from clusterctl.advise.fit.shapes import of_config

_COMMON = {"hidden_size": 256, "num_attention_heads": 4, "vocab_size": 2048, "max_position_embeddings": 512}
MODELS: dict[str, dict[str, Any]] = {
    "llama": {
        "model_type": "llama",
        **_COMMON,
        "intermediate_size": 688,
        "num_hidden_layers": 4,
        "num_key_value_heads": 2,
    },
    "gpt2": {
        "model_type": "gpt2",
        "n_embd": 256,
        "n_layer": 4,
        "n_head": 4,
        "vocab_size": 2048,
        "n_positions": 512,
        "resid_pdrop": 0.0,
        "attn_pdrop": 0.0,
        "embd_pdrop": 0.0,
    },
    "mistral": {
        "model_type": "mistral",
        "hidden_size": 320,
        "intermediate_size": 1024,
        "num_hidden_layers": 6,
        "num_attention_heads": 5,
        "num_key_value_heads": 1,
        "vocab_size": 5000,
        "max_position_embeddings": 512,
        "sliding_window": None,
    },
    "wide": {
        "model_type": "qwen2",
        "hidden_size": 512,
        "intermediate_size": 1280,
        "num_hidden_layers": 2,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "vocab_size": 3000,
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
    },
    "gemma": {
        "model_type": "gemma",
        "hidden_size": 192,
        "intermediate_size": 768,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": 64,
        "vocab_size": 16000,
        "max_position_embeddings": 512,
    },
    "neox": {
        "model_type": "gpt_neox",
        **_COMMON,
        "intermediate_size": 1024,
        "num_hidden_layers": 3,
        "vocab_size": 5000,
    },
}
BUCKET = 500_000


class Case(msgspec.Struct, frozen=True):
    """One training that is measured."""

    model: str
    strategy: str
    ranks: int
    job: Job

    @property
    def name(self) -> str:
        how = f"{self.job.precision}/{self.job.micro_batch}x{self.job.sequence}"
        how += "/checkpointed" if self.job.checkpointing else ""
        how += f"/{self.job.method}" if self.job.method != "full" else ""
        return f"{self.model}/{self.strategy}/{self.ranks}/{how}"

    @property
    def plan(self) -> Strategy:
        return next(each for each in STRATEGIES if each.name == self.strategy)

    def for_rank(self) -> dict[str, Any]:
        """As `rank.py` takes it: with the very config that `fit --write` writes, but for what a CPU lacks."""
        config = ds_config(of_config(MODELS[self.model]), self.job, self.plan, on_cpu=True)
        config["optimizer"]["params"]["fused"] = True
        config["steps_per_print"] = 10**9
        zero = config["zero_optimization"]
        for key in ("offload_optimizer", "offload_param"):
            if key in zero:
                zero[key]["pin_memory"] = False
        return {
            "name": self.name,
            "model": MODELS[self.model],
            "micro_batch": self.job.micro_batch,
            "sequence": self.job.sequence,
            "checkpointing": self.job.checkpointing,
            "method": self.job.method,
            "lora_rank": self.job.lora_rank,
            "steps": 3 * self.job.accumulation,
            "config": config,
        }


def _job(precision: str, micro_batch: int = 4, sequence: int = 128, **others: Any) -> Job:
    values = {"precision": precision, "micro_batch": micro_batch, "sequence": sequence, "bucket": BUCKET}
    return msgspec.convert(values | others, Job)


QUICK = (Case("llama", "zero2", 2, _job("bf16")), Case("gpt2", "zero1", 2, _job("fp32", 1, 32)))
CASES = (
    *QUICK,
    Case("llama", "ddp", 1, _job("fp32")),
    Case("mistral", "zero2", 1, _job("bf16")),
    Case("wide", "zero3", 1, _job("bf16", 2, 64)),
    Case("llama", "ddp", 2, _job("bf16", 1, 32)),
    Case("llama", "zero3", 2, _job("bf16")),
    Case("llama", "zero2", 2, _job("bf16", checkpointing=True)),
    Case("llama", "zero2-offload", 2, _job("bf16", 1, 32)),
    Case("mistral", "zero3-offload", 2, _job("bf16", 1, 32)),
    Case("wide", "zero1", 2, _job("fp32", 2, 256)),
    Case("llama", "ddp", 4, _job("bf16")),
    Case("mistral", "zero1", 4, _job("bf16", 1, 32)),
    Case("mistral", "zero2", 4, _job("bf16", 2, 200)),
    Case("mistral", "zero3", 4, _job("fp32", 1, 32)),
    Case("wide", "zero2", 4, _job("fp32")),
    Case("wide", "zero3", 4, _job("bf16", 2, 256)),
    Case("gpt2", "zero2", 4, _job("bf16", 2, 256, accumulation=4)),
    Case("gpt2", "zero3", 2, _job("fp32", 2, 64)),
    Case("wide", "zero2-offload", 2, _job("fp32", 1, 32)),
    Case("llama", "zero3-offload", 2, _job("bf16", checkpointing=True)),
    Case("llama", "zero3", 4, _job("bf16", 1, 64, checkpointing=True, accumulation=2)),
    Case("gpt2", "zero2-offload", 4, _job("bf16", 2, 128)),
    Case("wide", "zero3-offload", 4, _job("bf16", 1, 32)),
    Case("wide", "zero1", 4, _job("bf16", 2, 64, accumulation=2)),
    Case("gemma", "ddp", 1, _job("bf16", 2, 64)),
    Case("llama", "ddp", 1, _job("bf16", method="lora")),
    Case("llama", "zero2", 1, _job("bf16", 2, method="qlora")),
    Case("gemma", "zero2-offload", 2, _job("bf16", 1, 32)),
    Case("neox", "zero2", 2, _job("bf16", 4, 256)),
    Case("neox", "zero2", 2, _job("bf16", 2, method="lora")),
)
