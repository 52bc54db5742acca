"""What DeepSpeed 0.19.8 refused, or took, when it was given these: lint says the same beforehand."""

from __future__ import annotations

from typing import Any

import pytest

from tests.test_advise_lint import lint

ADAM = {"type": "AdamW", "params": {"lr": 1e-3}}
CPU = {"device": "cpu"}


def adam(**others: Any) -> dict[str, Any]:
    return {"optimizer": {"type": "AdamW", "params": {"lr": 1e-3, **others}}}


def scheduled(name: str, **parameters: Any) -> dict[str, Any]:
    return {"scheduler": {"type": name, "params": parameters}}


def zero(stage: int, **others: Any) -> dict[str, Any]:
    return {"zero_optimization": {"stage": stage, **others}}


def flow(**others: Any) -> dict[str, Any]:
    return zero(2, zenflow={"topk_ratio": 0.1, **others}, offload_optimizer=CPU)


def experts(**others: Any) -> dict[str, Any]:
    return {"expert_parallel": {"enabled": True, **others}}


def folded(size: int = 2, **others: Any) -> dict[str, Any]:
    """Experts beside layers that are split."""
    return {"tensor_parallel": {"autotp_size": 2}, **experts(autoep_size=size, **others)}


CYCLE = {"cycle_min_lr": 0, "cycle_max_lr": 0.1}
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"log_level": "verbose"}, 'log_level is "verbose", not debug, info, warning, error or critical'),
    ({"wall_clock_breakdown": "yes"}, 'wall_clock_breakdown is "yes", not true or false'),
    ({"wall_clock_breakdown": None}, "wall_clock_breakdown is null, not true or false"),
    ({"flops_profiler": {"enabled": "auto"}}, 'flops_profiler.enabled is "auto", not true or false'),
    ({"vocabulary_size": "32k"}, 'vocabulary_size is "32k", not a number'),
    ({"sequence_parallel_size": 0}, "sequence_parallel_size is 0, not a number above 0"),
    ({"gradient_allreduce_op": "avg"}, 'gradient_allreduce_op is "avg", not mean or sum'),
    (
        {"checkpoint": {"tag_validation": "foo"}},
        'checkpoint.tag_validation is "foo", not ignore, warn or fail',
    ),
    ({"checkpoint": {"parallel_write": True}}, "checkpoint.parallel_write is true, not an object"),
    ({"checkpoint": {"parallel_write": {"pipeline_stage": 3}}}, "pipeline_stage is 3, not true or false"),
    ({"checkpoint": {"writer": {"type": "torch"}}}, 'writer.type is "torch", not mock, python or fast'),
    ({"data_types": {"keep_in_fp32_modules": "norm"}}, 'is "norm", not "auto" or a list of names'),
    ({"data_types": {"grad_accum_dtype": "half precision"}}, "not fp16, bf16 or fp32"),
    ({"data_types": {"param_dtype": "bf16"}}, "data_types.param_dtype is bf16, and the model is in fp32"),
    ({"data_types": {"buffer_dtype": "x"}, "bf16": {"enabled": True}}, 'buffer_dtype is "x", not fp16'),
    ({"torch_autocast": {"enabled": True, "dtype": "fp8"}}, 'torch_autocast.dtype is "fp8"'),
    (
        {"torch_autocast": {"lower_precision_safe_modules": ["Linear"]}},
        "a list of classes, each with its module",
    ),
    ({"fp16": {"loss_scale": float("inf")}}, 'fp16.loss_scale is "Infinity"; 0 finds one by itself'),
    ({"fp16": {"enabled": True, "loss_scale": "nan"}}, 'fp16.loss_scale is "nan"; 0 finds'),
    (zero(2, reduce_bucket_size=1e300), "reduce_bucket_size is 1e+300, not a whole number"),
    (
        {
            "tensor_parallel": {
                "autotp_size": 2,
                "partition_config": {"layer_specs": [{"patterns": ["q"]}, {"partition_type": "rows"}]},
            }
        },
        'partition_type is "rows", not column, row or skip',
    ),
    ({"optimizer": {"type": []}}, "optimizer.type \"[]\" is neither DeepSpeed's nor torch's"),
    ({"timers": {"throughput": {"on": True}}}, "not an object of enabled and synchronized"),
    ({"compile": {"passes": ["prefetch"]}}, "not a list of z1, z3, autosp and autotp"),
    ({"zero_optimization": {"stage": "²"}}, 'zero_optimization.stage is "²"'),
    ({"gradient_accumulation_steps": float("inf")}, "gradient_accumulation_steps is "),
    ({"tensor_parallel": {"dtype": "bf16"}}, "not something that a file can hold"),
    ({"expert_parallel": {"load_balance_coeff": 0.1}}, "load_balance_coeff is 0.1, not null"),
    (experts(score_apply="x"), 'score_apply is "x", not auto, pre or post'),
    (experts(expert_activation="relu"), "not null, swiglu, geglu_tanh"),
    (experts(comm_num_sm=0), "comm_num_sm is 0, not a whole number from 1 on"),
    (experts(autoep_size=0), "autoep_size is 0, not a whole number from 1 on"),
    (experts(autoep_size=4), "2 ranks cannot be divided into groups of 4"),
    (experts(expert_tensor_parallel_size=2), "is 2, not 1, which is all"),
    (experts(expert_w1="a.b"), "not null or the name of an attribute, without dots"),
    (experts(has_shared_experts="yes"), 'is "yes", not null, true or false'),
    (experts(async_split_plan=1), "async_split_plan is 1, not true or false"),
    (experts(routed_scaling_factor="2"), 'not "auto" or a number'),
    (experts(comm_backend="deepep"), "needs comm_max_tokens_per_rank"),
    (experts(row_weighting_impl="fused"), "fused needs comm_backend deepep"),
    (experts(gate_up_impl="fused", use_grouped_mm=False), "fused needs use_grouped_mm"),
    (experts(num_limited_groups=3, num_expert_groups=2), "num_limited_groups 3 is more than"),
    (folded(1), "autoep_size is 1; beside tensor_parallel.autotp_size 2 it must be above 1"),
    (folded(combine_impl="fused_weighted_sum"), "fused_weighted_sum cannot stand beside tensor_parallel"),
    (folded(async_split_plan=True), "async_split_plan cannot stand beside tensor_parallel.autotp_size 2"),
    ({**folded(), "compile": {"deepcompile": True}}, "compile.deepcompile cannot stand beside"),
    (
        {**folded(), "use_data_before_expert_parallelism": True},
        "use_data_before_expert_parallelism cannot stand beside",
    ),
    ({**folded(), **zero(2, offload_optimizer={"device": "none"})}, "offload_optimizer cannot stand beside"),
    ({**folded(), **zero(3, offload_param=CPU)}, "offload_param cannot stand beside"),
    ({**folded(), **zero(2, cpu_offload=True)}, "cpu_offload cannot stand beside"),
    (
        {**experts(preset_model="mixtral"), "tensor_parallel": {"preset_model": "llama"}},
        'preset_model is "mixtral" here and "llama" in tensor_parallel',
    ),
    ({**experts(), **zero(3, zero_quantized_gradients=True)}, "zero_quantized_gradients cannot stand beside"),
    ({**experts(), **zero(3, zero_hpz_partition_size=2)}, "zero_hpz_partition_size cannot stand beside"),
    (
        {**experts(), **zero(3), "data_parallel_size": 1, "sequence_parallel_size": 2},
        "sequence_parallel_size cannot stand beside ZeRO stage 3",
    ),
    ({"timers": 1}, "timers is 1, not an object"),
    ({"fp16": {"loss_scale": True}}, "fp16.loss_scale is true, not a number"),
    (adam(betas=0.9), "betas is 0.9, not a list of two numbers"),
    (adam(eps="1e-8"), 'eps is "1e-8", not a number from 0 on'),
    (adam(lr=None), "lr is null, not a number from 0 on"),
    (adam(lr=-1, torch_adam=True), "lr is -1, not a number from 0 on"),
    (adam(amsgrad=True), "AdamW has no amsgrad where it is DeepSpeed's FusedAdam"),
    (adam(fused=True), 'AdamW takes no "fused" where it is DeepSpeed\'s FusedAdam'),
    (adam(bias_correction=True, torch_adam=True), 'AdamW takes no "bias_correction" where it is torch\'s'),
    (
        {**adam(set_grad_none=True), **zero(2, offload_optimizer=CPU)},
        'takes no "set_grad_none" where it is DeepSpeedCPUAdam',
    ),
    ({"optimizer": {"type": "SGD", "params": {"lr": 0.1, "momentun": 0.9}}}, 'SGD takes no "momentun"'),
    ({"optimizer": {"type": "OneBitAdam"}}, "the 1-bit optimizers were removed, and never went with ZeRO"),
    (
        {"optimizer": {"type": "muon", "params": {"lr": 0.02}}, **zero(3)},
        "Muon does not go with reduce_scatter",
    ),
    (
        {"optimizer": {"type": "Lamb", "params": {"lr": 1e-3}}, "fp16": {"enabled": True, "loss_scale": 128}},
        '"Lamb" needs a loss scale that DeepSpeed finds by itself',
    ),
    (scheduled("StepLR"), "StepLR without step_size"),
    (scheduled("StepLR", step_size=1, gama=0.5), 'StepLR takes no "gama"'),
    (scheduled("WarmupLR", warmup_num_steps=None), "warmup_num_steps is null"),
    (scheduled("WarmupDecayLR", total_num_steps="all"), 'total_num_steps is "all", not a number'),
    (scheduled("LRRangeTest", lr_range_test_step_size=0.5), "lr_range_test_step_size is 0.5, not a whole"),
    (
        scheduled("OneCycle", **CYCLE, cycle_first_step_size=0),
        "cycle_first_step_size is 0, not a number above 0",
    ),
    (scheduled("OneCycle", **CYCLE, cycle_second_step_size=-1), "cycle_second_step_size is -1"),
    (zero(2, compute_grad_norm=False), 'compute_grad_norm false needs "gradient_clipping": 0'),
    ({**zero(2), "prescale_gradients": True}, "prescale_gradients does not go with reduce_scatter"),
    (
        {**zero(2), "gradient_predivide_factor": 4.0},
        "gradient_predivide_factor does not go with reduce_scatter",
    ),
    (zero(2, zenflow={}), "zenflow without offload_optimizer"),
    (flow(select_interval=2), "select_interval is given, and select_strategy auto finds one by itself"),
    (flow(select_strategy="step"), 'zenflow.select_interval is "auto", not a number'),
    (flow(select_strategy="best"), 'zenflow.select_strategy is "best", not auto, step or epoch'),
    (flow(update_interval=0), 'zenflow.update_interval is 0, not "auto" or 1 or more'),
    (flow(offload=True), "zenflow.offload needs overlap_comm"),
    (
        {**zero(2), "bf16": {"enabled": True, "bf16_master_weights_and_grads": True}},
        "bf16.bf16_master_weights_and_grads needs DeepSpeed's own Adam, offloaded to RAM",
    ),
    (
        {
            **zero(1, offload_optimizer=CPU),
            "bf16": {"bf16_master_weights_and_grads": True, "bf16_optimizer_states": True},
            **adam(torch_adam=True),
        },
        "needs DeepSpeed's own Adam, offloaded to RAM",
    ),
    (
        {"data_parallel_size": 2, "sequence_parallel_size": 2},
        "data_parallel_size 2 x sequence_parallel_size 2 is more than 2 ranks",
    ),
    ({"tensor_parallel": {"autotp_size": "auto"}}, 'tensor_parallel.autotp_size is "auto"'),
    ({"tensor_parallel": {"autotp_size": 4}}, "2 ranks cannot be divided into groups of 4"),
]
ACCEPTED: list[dict[str, Any]] = [
    {"_comment": "for two hosts", "comment": "yes"},
    {"log_level": "WARNING"},
    {"wall_clock_breakdown": 1},
    {"expert_parallel": None},
    {"expert_parallel": {"enabled": False, "autoep_size": 2, "preset_model": "mixtral"}},
    experts(preset_model="mixtral", autoep_size=2, expert_w3=None, num_expert_groups=2, top_k=2),
    experts(comm_backend="deepep", comm_max_tokens_per_rank=4096, autoep_size=2, row_weighting_impl="fused"),
    {**folded(), **zero(2, offload_optimizer=None)},
    {**folded(preset_model="mixtral"), **zero(3)},
    {**experts(async_split_plan=True, autoep_size=2), "compile": {"deepcompile": True}},
    {**experts(autoep_size=2), **zero(2, offload_optimizer=CPU, zero_quantized_gradients=True)},
    {"checkpoint": {"tag_validation": "Fail", "parallel_write": {"pipeline_stage": True}, "writer": None}},
    {"data_types": {"grad_accum_dtype": "float32", "param_dtype": "torch.float32"}},
    {"data_types": {"keep_in_fp32_modules": ["norm"]}},
    {"torch_autocast": {"enabled": True, "dtype": "torch.bfloat16"}},
    {"torch_autocast": {"enabled": True, "lower_precision_safe_modules": ["torch.nn.Linear"]}},
    {"gradient_clipping": False},
    {"gradient_allreduce_op": "SUM", **zero(2), "prescale_gradients": True},
    zero(2, leaf_module=None),
    zero(3, leaf_module={"classes": "Block", "names": ["experts"]}),
    {**zero(2, compute_grad_norm=False), "gradient_clipping": 0.0},
    {**zero(2, reduce_scatter=False), "prescale_gradients": True},
    {**adam(amsgrad=True, fused=False, torch_adam=True)},
    {**adam(bias_correction=False, set_grad_none=True)},
    scheduled("WarmupLR", warmup_max_lr=None, warmup_type="linear"),
    scheduled("ExponentialLR", gamma=0.9),
    scheduled("OneCycle", **CYCLE, cycle_second_step_size=None, decay_step_size=0),
    scheduled("LRRangeTest", lr_range_test_min_lr=[1e-4], lr_range_test_step_size=3),
    {
        **zero(2),
        "bf16": {"enabled": True, "bf16_master_weights_and_grads": True, "bf16_optimizer_states": True},
    },
    {
        **zero(2, offload_optimizer=CPU),
        "fp16": {"enabled": True, "fp16_master_weights_and_grads": True},
    },
    {"tensor_parallel": {"autotp_size": 2}},
    {"tensor_parallel": {"autotp_size": 2, "preset_model": "Llama"}},
    {
        "tensor_parallel": {
            "autotp_size": 2,
            "partition_config": {"layer_specs": [{"patterns": ["q"], "partition_type": "Row"}]},
        }
    },
    {"timers": {"throughput": {"enabled": True, "synchronized": False}}},
    {"compile": {"deepcompile": True, "passes": ["z1", "autosp"]}},
    zero(2, reduce_bucket_size=1e14),
    flow(select_strategy="epoch", select_interval=1, update_interval=4),
    {"wandb": {"enabled": True, "project": "p"}},
    {"optimizer": {**ADAM, "legacy_fusion": False, "_why": "as before"}},
]


@pytest.mark.parametrize(("config", "said"), REFUSED)
def test_it_is_refused_with_a_sentence(config: dict[str, Any], said: str) -> None:
    found = [each.finding for each in lint(_whole(config), ranks=2) if each.finding.severity == "fail"]
    assert [said in each.observed for each in found] == [True], [each.observed for each in found]


@pytest.mark.parametrize("config", ACCEPTED)
def test_nothing_is_said_of_it(config: dict[str, Any]) -> None:
    found = [each.finding for each in lint(_whole(config), ranks=2) if each.finding.severity != "info"]
    assert not found, [each.observed for each in found]


def _whole(config: dict[str, Any]) -> dict[str, Any]:
    return {"train_micro_batch_size_per_gpu": 1, "optimizer": ADAM, **config}


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"optimizer": {"type": "Lion", "params": {"lr": 1e-4}}}, 'DeepSpeed has "Lion" for GPUs only'),
        (zero(3, zero_quantized_weights=True), "zero_quantized_weights needs GPUs"),
        ({"aio": {"use_gds": True}}, "aio.use_gds needs GPUs"),
    ],
)
def test_what_needs_a_gpu_is_refused_where_there_is_none(config: dict[str, Any], said: str) -> None:
    for cpu in (True, False):
        found = [each.finding for each in lint(_whole(config), ranks=2, cpu=cpu)]
        assert any(said in each.observed and each.severity == "fail" for each in found) == cpu


@pytest.mark.parametrize(
    "config",
    [
        {"gradient_accumulation_steps": 1.5},
        {"gradient_accumulation_steps": True},
        adam(lr=-1.0),
        {"tensor_parallel": {"preset_model": "lama"}},
        {"optimizer": {"type": "AdamW", "param": {"lr": 1e-5}}},
        {"optimizer": {"type": "AdamW", "lr": 1e-5}},
        {"scheduler": {"name": "WarmupLR", "params": {}}},
        {"data_efficiency": {"enable": True}},
    ],
)
def test_what_starts_and_is_wrong_is_a_note(config: dict[str, Any]) -> None:
    assert {each.finding.severity for each in lint(_whole(config), ranks=2)} == {"warn"}


def test_a_package_that_deepspeed_does_not_bring_is_named() -> None:
    [found] = lint(_whole({"wandb": {"enabled": True}}), ranks=2)
    assert found.finding.observed == "wandb.enabled needs the package wandb, which DeepSpeed does not bring"
