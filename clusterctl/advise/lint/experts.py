"""``expert_parallel``, where it is enabled: experts of a layer on ranks of their own, DeepSpeed's AutoEP."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from clusterctl.advise.lint.case import Case, Remark, named, shown
from clusterctl.advise.lint.text import Place

_SECTION = "expert_parallel"
_ZERO = "zero_optimization"
_START = "every rank fails in deepspeed.initialize"
_PRESETS = ("mixtral", "qwen3_moe", "qwen3_5_moe", "deepseek_v2", "deepseek_v3", "minimax_m3")
_CHOICES = {
    "score_apply": ("auto", "pre", "post"),
    "combine_impl": ("auto", "weighted_sum", "fused_weighted_sum", "legacy_bmm"),
    "row_weighting_impl": ("auto", "eager", "fused"),
    "gate_up_impl": ("separate", "fused"),
    "comm_backend": ("comm", "deepep"),
    "score_func": ("auto", "softmax", "sigmoid"),
    "expert_activation": (None, "swiglu", "geglu_tanh", "swiglu_clamped", "swiglu_oai"),
}
_LEAST = {"autoep_size": 1, "comm_num_sm": 1, "comm_qp_margin": 0, "comm_max_tokens_per_rank": 0}
_COUNTS_OR_NULL = ("num_limited_groups", "num_expert_groups")
_NAMES = (
    *("expert_w1", "expert_w2", "expert_w3", "num_experts_attr", "top_k_attr", "router_pattern"),
    *("expert_pattern", "shared_experts_pattern", "shared_experts_gate_pattern"),
)
_SWITCHES = ("validate_folding_routing", "async_split_plan")


def judge(case: Case) -> Iterator[Remark]:
    given = case.section(_SECTION)
    if not given.get("enabled"):
        return
    for key, wanted, holds in _wanted():
        if key in given and not holds(given[key]):
            yield _refused(case, key, f"{_SECTION}.{key} is {shown(given[key])}, not {wanted}")
    preset = given.get("preset_model")
    if preset is not None and preset not in _PRESETS:
        yield case.remark(
            "warn",
            "ds.type",
            (_SECTION, "preset_model"),
            f"{_SECTION}.preset_model is {shown(preset)}, which DeepSpeed 0.19.8 does not know",
            leads=_START,
            fix=", ".join(_PRESETS),
        )
    yield from _together(case, given)
    yield from _presets(case, given)
    yield from _split_layers(case, given)
    yield from _sharded(case)


def _wanted() -> Iterator[tuple[str, str, Callable[[Any], bool]]]:
    """(key, what it must be in words, whether a value is that)."""
    for key, choices in _CHOICES.items():
        names = [each or "null" for each in choices]
        yield key, f"{', '.join(names[:-1])} or {names[-1]}", partial(operator.contains, choices)
    for key, least in _LEAST.items():
        yield key, f"a whole number from {least} on", partial(_is_whole, least)
    for key in _COUNTS_OR_NULL:
        yield key, "null or a number from 1 on", _is_count_or_null
    for key in _NAMES:
        yield key, "null or the name of an attribute, without dots", _is_attribute
    for key in _SWITCHES:
        yield key, "true or false", _is_switch
    yield "has_shared_experts", "null, true or false", lambda value: value is None or _is_switch(value)
    yield "routed_scaling_factor", '"auto" or a number', lambda value: value == "auto" or _is_number(value)
    yield "expert_tensor_parallel_size", "1, which is all that DeepSpeed has", lambda value: value == 1


def _together(case: Case, given: dict[str, Any]) -> Iterator[Remark]:
    size, backend = given.get("autoep_size", 1), given.get("comm_backend", "comm")
    ranks = case.situation.ranks
    if _is_whole(1, size) and ranks and ranks % size:
        told = f"{ranks} ranks cannot be divided into groups of {size}"
        yield _refused(case, "autoep_size", f"{_SECTION}.autoep_size: {told}")
    if given.get("gate_up_impl") == "fused" and not given.get("use_grouped_mm", True):
        yield _refused(case, "gate_up_impl", f"{_SECTION}.gate_up_impl fused needs use_grouped_mm")
    if given.get("row_weighting_impl") == "fused" and (backend != "deepep" or size == 1):
        told = "row_weighting_impl fused needs comm_backend deepep and an autoep_size above 1"
        yield _refused(case, "row_weighting_impl", f"{_SECTION}.{told}")
    if backend == "deepep" and not given.get("comm_max_tokens_per_rank", 0):
        told = "comm_backend deepep needs comm_max_tokens_per_rank, the most tokens that one rank routes"
        yield _refused(case, "comm_backend", f"{_SECTION}.{told}")
    if backend == "deepep" and given.get("combine_impl") == "fused_weighted_sum" and size != 1:
        told = "combine_impl fused_weighted_sum cannot be used with comm_backend deepep"
        yield _refused(case, "combine_impl", f"{_SECTION}.{told}")
    limited, every = given.get("num_limited_groups"), given.get("num_expert_groups")
    if isinstance(limited, int) and isinstance(every, int) and limited > every >= 1:
        told = f"num_limited_groups {limited} is more than num_expert_groups {every}"
        yield _refused(case, "num_limited_groups", f"{_SECTION}.{told}")


def _presets(case: Case, given: dict[str, Any]) -> Iterator[Remark]:
    own, split = given.get("preset_model"), case.get("tensor_parallel", "preset_model")
    if own is not None and split is not None and own != split:
        told = f"preset_model is {shown(own)} here and {shown(split)} in tensor_parallel: DeepSpeed wants one"
        yield _refused(case, "preset_model", f"{_SECTION}.{told}")


def _split_layers(case: Case, given: dict[str, Any]) -> Iterator[Remark]:
    """What does not go with layers that tensor_parallel splits over several ranks."""
    split = case.get("tensor_parallel", "autotp_size")
    if not _is_whole(2, split):
        return
    size = given.get("autoep_size", 1)
    beside = f"beside tensor_parallel.autotp_size {split}"
    if size == 1:
        yield _refused(case, "autoep_size", f"{_SECTION}.autoep_size is 1; {beside} it must be above 1")
    if given.get("combine_impl") == "fused_weighted_sum":
        yield _refused(
            case, "combine_impl", f"{_SECTION}.combine_impl fused_weighted_sum cannot stand {beside}"
        )
    if given.get("async_split_plan") is True and size != 1:
        yield _refused(case, "async_split_plan", f"{_SECTION}.async_split_plan cannot stand {beside}")
    others: dict[Place, Any] = {
        ("compile", "deepcompile"): case.on("compile", "deepcompile"),
        ("use_data_before_expert_parallelism",): case.get("use_data_before_expert_parallelism"),
        (_ZERO, "offload_optimizer"): case.get(_ZERO, "offload_optimizer") is not None,
        (_ZERO, "offload_param"): case.get(_ZERO, "offload_param") is not None,
        (_ZERO, "cpu_offload"): case.on(_ZERO, "cpu_offload"),
        (_ZERO, "cpu_offload_param"): case.on(_ZERO, "cpu_offload_param"),
        ("sequence_parallel_size",): _sequences(case) > 1,
    }
    for place in (place for place, there in others.items() if there):
        told = f"{named(place)} cannot stand {beside} where {_SECTION} is enabled"
        yield case.remark("fail", "ds.conflict", place, told, leads=_START)


def _sharded(case: Case) -> Iterator[Remark]:
    """What does not go with experts that ZeRO stage 3 shards."""
    if case.stage != 3:
        return
    partition = case.get(_ZERO, "zero_hpz_partition_size")
    others: dict[Place, bool] = {
        (_ZERO, "zero_quantized_gradients"): case.on(_ZERO, "zero_quantized_gradients"),
        (_ZERO, "zero_hpz_partition_size"): _is_whole(2, partition),
        ("sequence_parallel_size",): _sequences(case) > 1,
    }
    for place in (place for place, there in others.items() if there):
        told = f"{named(place)} cannot stand beside ZeRO stage 3 where {_SECTION} is enabled"
        yield case.remark("fail", "ds.conflict", place, told, leads=_START)


def _sequences(case: Case) -> int:
    """Ranks that share a sequence: DeepSpeed groups them where both sizes are there, else a script may."""
    size = case.get("sequence_parallel_size")
    return size if case.get("data_parallel_size") is not None and _is_whole(2, size) else 1


def _is_whole(least: int, value: Any) -> bool:
    return isinstance(value, int) and value >= least


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float))


def _is_count_or_null(value: Any) -> bool:
    return value is None or (_is_number(value) and value >= 1)


def _is_switch(value: Any) -> bool:
    return isinstance(value, bool)


def _is_attribute(value: Any) -> bool:
    return value is None or (isinstance(value, str) and value != "" and "." not in value)


def _refused(case: Case, key: str, told: str) -> Remark:
    return case.remark("fail", "ds.type", (_SECTION, key), told, leads=_START)
