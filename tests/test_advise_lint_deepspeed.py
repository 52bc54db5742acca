"""Configs of the kinds that DeepSpeed's own tests train with: lint says nothing of them.

Rebuilt as data, with other numbers, from what those tests set; ``ranks`` are theirs.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.test_advise_lint import lint

ADAM = {"type": "Adam", "params": {"lr": 1.5e-4, "weight_decay": 0.01}}
BF16, FP16 = {"enabled": True}, {"enabled": True, "loss_scale": 0, "initial_scale_power": 8}
SCHEDULE = {"schedule_type": "fixed_linear", "schedule_config": {"require_steps": 100, "seq_per_step": 16}}
METRIC = {
    "index_to_sample_path": "samples",
    "index_to_metric_path": "metric",
    "difficulty_type": "value",
    "clustering_type": "single_cluster",
    "min_difficulty": 2,
    "max_difficulty": 10,
    "schedule_type": "fixed_root",
    "schedule_config": {"total_curriculum_step": 8, "difficulty_step": 2, "root_degree": 1},
}
ZENFLOW = {
    "topk_ratio": 0.2,
    "overlap_step": False,
    "offload": True,
    "auto_ratio": 0.99,
    "full_warm_up_rounds": 3,
}


def zero(stage: int, **others: Any) -> dict[str, Any]:
    return {"zero_optimization": {"stage": stage, **others}}


BASE = {"train_micro_batch_size_per_gpu": 1, "steps_per_print": 1, "optimizer": ADAM}
CPU = {"device": "cpu"}
CASES: dict[str, tuple[int, dict[str, Any]]] = {
    "bf16": (1, {"train_batch_size": 1, "optimizer": ADAM, "bf16": BF16}),
    "bfloat16": (1, {"train_batch_size": 1, "optimizer": ADAM, "bfloat16": BF16}),
    "no optimizer": (1, {"train_batch_size": 1, "fp16": BF16}),
    "static loss scale": (2, {**BASE, "fp16": {"enabled": True, "loss_scale": 8.0}}),
    "dynamic loss scale": (
        2,
        {
            **BASE,
            "fp16": {
                "enabled": True,
                "loss_scale": 0,
                "initial_scale_power": 8,
                "loss_scale_window": 2,
                "hysteresis": 1,
                "min_loss_scale": 1,
                "consecutive_hysteresis": True,
                "auto_cast": False,
            },
        },
    ),
    "data efficiency": (
        2,
        {
            "train_batch_size": 2,
            "optimizer": ADAM,
            "gradient_clipping": 1.0,
            "fp16": FP16,
            "data_efficiency": {
                "enabled": True,
                "seed": 7,
                "data_sampling": {
                    "enabled": True,
                    "num_workers": 0,
                    "curriculum_learning": {
                        "enabled": True,
                        "data_cluster_path": "/tmp",
                        "curriculum_metrics": {"length": METRIC},
                    },
                },
                "data_routing": {
                    "enabled": True,
                    "random_ltd": {
                        "enabled": True,
                        "total_layer_num": 4,
                        "random_ltd_layer_num": 2,
                        "random_ltd_layer_id": [1, 2],
                        "model_mask_name": None,
                        "micro_batch_size": 2,
                        "hidden_state_order": "batch_seq_dim",
                        "model_type": "decoder",
                        "random_ltd_schedule": {"min_value": 8, "max_value": 64, **SCHEDULE},
                    },
                },
            },
        },
    ),
    **{
        f"autocast {stage}": (
            2,
            {
                "train_micro_batch_size_per_gpu": 1,
                **zero(stage),
                "torch_autocast": {
                    "enabled": True,
                    "dtype": "torch.bfloat16",
                    "lower_precision_safe_modules": ["torch.nn.modules.linear.Linear"],
                },
            },
        )
        for stage in (0, 1, 2, 3)
    },
    **{
        f"zenflow {stage} {strategy}": (
            2,
            {
                "train_batch_size": 4,
                "gradient_accumulation_steps": 1,
                "optimizer": ADAM,
                "bf16": BF16,
                "zero_allow_untested_optimizer": True,
                **zero(
                    stage,
                    offload_optimizer=CPU,
                    overlap_comm=True,
                    zenflow={
                        **ZENFLOW,
                        "select_strategy": strategy,
                        "select_interval": interval,
                        "update_interval": update,
                    },
                ),
            },
        )
        for stage in (1, 2, 3)
        for strategy, interval, update in (("auto", "auto", "auto"), ("step", 10, 3), ("epoch", 1, 4))
    },
    "zero++": (
        4,
        {
            **BASE,
            **zero(
                3,
                stage3_max_reuse_distance=0,
                zero_hpz_partition_size=2,
                zero_quantized_weights=True,
                zero_quantized_gradients=True,
                contiguous_gradients=True,
                overlap_comm=True,
            ),
            "fp16": {"enabled": True, "loss_scale": 1.0},
        },
    ),
    "a pipeline alone": (
        4,
        {
            "train_batch_size": 4,
            "optimizer": {"type": "Adam", "params": {"lr": 0.001, "betas": [0.9, 0.999], "eps": 1e-8}},
            **zero(0),
            "fp16": {"enabled": False},
            "pipeline": {"seed_layers": True, "activation_checkpoint_interval": 1, "use_reentrant": False},
        },
    ),
    "a pipeline of two": (
        2,
        {
            "train_batch_size": 2,
            "train_micro_batch_size_per_gpu": 1,
            "gradient_accumulation_steps": 2,
            "gradient_clipping": 0.0,
            "optimizer": {"type": "SGD", "params": {"lr": 0.1}},
            "zero_allow_untested_optimizer": True,
            "pipeline": {"activation_checkpoint_interval": 0},
        },
    ),
    "muon": (
        2,
        {
            "train_batch_size": 4,
            "optimizer": {"type": "muon", "params": {"lr": 0.02}},
            "gradient_clipping": 1.0,
            "fp16": {"enabled": False},
            **zero(1, reduce_scatter=False),
        },
    ),
    "partial offload": (
        2,
        {
            **BASE,
            **zero(3, offload_optimizer={"device": "cpu", "ratio": 0.3, "pin_memory": True}),
            "fp16": FP16,
        },
    ),
    "offload of all": (
        2,
        {
            **BASE,
            "bf16": BF16,
            **zero(3, offload_param=CPU, offload_optimizer=CPU, sub_group_size=8, reduce_bucket_size=20),
        },
    ),
    "an optimizer of torch under ZeRO": (
        2,
        {
            "train_micro_batch_size_per_gpu": 1,
            "optimizer": {"type": "SGD", "params": {"lr": 0.1, "momentum": 0.9}},
            "zero_allow_untested_optimizer": True,
            **zero(2),
        },
    ),
    "masters in bf16": (
        2,
        {
            **BASE,
            "bf16": {
                "enabled": True,
                "bf16_master_weights_and_grads": True,
                "bf16_optimizer_states": True,
            },
            **zero(1),
        },
    ),
    "grad_accum_dtype": (2, {**BASE, "bf16": BF16, "data_types": {"grad_accum_dtype": "fp32"}, **zero(1)}),
    "universal checkpoint": (
        2,
        {**BASE, **zero(2), "checkpoint": {"load_universal": True, "tag_validation": "FAIL"}},
    ),
    "sequence parallel": (4, {**BASE, "train_batch_size": 2, "sequence_parallel_size": 2, **zero(1)}),
    "tensor parallel": (4, {**BASE, "tensor_parallel": {"autotp_size": 4}, **zero(1), "bf16": BF16}),
    "cosine": (
        1,
        {
            **BASE,
            "scheduler": {
                "type": "WarmupCosineLR",
                "params": {"total_num_steps": 100, "warmup_num_steps": 10, "cos_min_ratio": 0.1},
            },
        },
    ),
    "range test": (
        1,
        {
            **BASE,
            "scheduler": {
                "type": "LRRangeTest",
                "params": {"lr_range_test_min_lr": 1e-4, "lr_range_test_step_size": 10},
            },
        },
    ),
    "compile": (2, {**BASE, **zero(3), "compile": {"deepcompile": True}, "bf16": BF16}),
    "layers split by patterns": (
        4,
        {
            **BASE,
            **zero(0),
            "bf16": BF16,
            "tensor_parallel": {
                "autotp_size": 2,
                "tp_overlap_comm": True,
                "partition_config": {
                    "use_default_specs": False,
                    "layer_specs": [{"patterns": ["up$"], "partition_type": "row", "gather_output": False}],
                },
            },
        },
    ),
    "sequences compiled": (
        4,
        {
            **BASE,
            **zero(1),
            "train_batch_size": 2,
            "sequence_parallel_size": 2,
            "compile": {"deepcompile": True, "passes": ["autosp"]},
        },
    ),
    **{
        f"gradients summed by {name}": (
            2,
            {
                "train_micro_batch_size_per_gpu": 4,
                "gradient_clipping": 0.0,
                "gradient_allreduce_op": "sum",
                "optimizer": {"type": name, "params": {"lr": 0.01, **others}},
                **zero(2, contiguous_gradients=True, reduce_scatter=True),
                "fp16": {"enabled": True, "loss_scale": 1.0},
            },
        )
        for name, others in (
            ("Muon", {"momentum": 0.9, "ns_method": "gram"}),
            ("AdamW", {"torch_adam": True}),
        )
    },
    "masters in 16 bits beside autocast": (
        2,
        {
            **BASE,
            **zero(3, offload_optimizer=CPU),
            "fp16": {"enabled": True, "fp16_master_weights_and_grads": True},
            "torch_autocast": {"enabled": True, "dtype": "torch.float16"},
        },
    ),
    "hybrid engine": (
        2,
        {
            **BASE,
            **zero(3, stage3_param_persistence_threshold=0),
            "hybrid_engine": {"enabled": True, "inference_tp_size": 2, "pin_parameters": True},
        },
    ),
    "another type on the wire": (2, {**BASE, **zero(2), "bf16": BF16, "communication_data_type": "fp16"}),
    "monitors": (
        1,
        {
            **BASE,
            "csv_monitor": {"enabled": True, "output_path": "out", "job_name": "x"},
            "tensorboard": {"enabled": False, "output_path": "out"},
            "comet": {"enabled": False, "project": "p", "api_key": "k", "mode": "get"},
        },
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_said_of_it(name: str) -> None:
    ranks, config = CASES[name]
    said = [each.finding.observed for each in lint(config, ranks=ranks) if each.finding.severity != "info"]
    assert not said


def test_a_pipeline_decides_how_many_ranks_share_their_data() -> None:
    [found] = lint(CASES["a pipeline of two"][1], ranks=2)
    assert found.finding.severity == "info"
    assert found.finding.observed == "train_batch_size 2 is right for 2 ranks in a pipeline of 2 stages"
    wrong = {**CASES["a pipeline of two"][1], "train_batch_size": 3}
    assert [each.finding.severity for each in lint(wrong, ranks=2)] == ["fail"]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"sparse_gradients": True}, "sparse_gradients was removed from DeepSpeed"),
        ({"progressive_layer_drop": {"enabled": True}}, "progressive_layer_drop was removed from DeepSpeed"),
        ({"optimizer": {"type": "OneBitAdam", "params": {"lr": 1e-4}}}, '"OneBitAdam" is neither'),
        ({"optimizer": {"type": "ZeroOneAdam", "params": {"lr": 1e-4}}}, '"ZeroOneAdam" is neither'),
    ],
)
def test_what_older_versions_trained_with_is_refused(config: dict[str, Any], said: str) -> None:
    [found] = lint({**BASE, **config}, ranks=2)
    assert found.finding.severity == "fail" and said in found.finding.observed


def test_slips_in_their_own_tests_are_found() -> None:
    """It trains, and the keys are ignored there since years."""
    [found] = lint({**CASES["a pipeline alone"][1], "grandient_accumulation_steps": 1}, ranks=4)
    assert found.finding.fix == 'did you mean "gradient_accumulation_steps"?'
    [found] = lint({**BASE, "torch_autocast": {"enable": True, "dtype": "float16"}}, ranks=2)
    assert found.finding.fix == 'did you mean "enabled"?'
