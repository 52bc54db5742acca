"""``tensor_parallel``: which layers are split over ranks, and how."""

from __future__ import annotations

from collections.abc import Iterator

from clusterctl.advise.lint.case import Case, Remark, shown
from clusterctl.advise.lint.text import Place

_SECTION = "tensor_parallel"
_PRESETS = ("llama", "bloom", "chatglm", "mixtral", "deepseek_v2", "qwen2", "phi3")
_KINDS = ("column", "row", "skip")


def judge(case: Case) -> Iterator[Remark]:
    given = case.section(_SECTION)
    preset, size = given.get("preset_model"), given.get("autotp_size")
    if isinstance(preset, str) and preset and preset.lower() not in _PRESETS:
        yield case.remark(
            "warn",
            "ds.ignored",
            (_SECTION, "preset_model"),
            f"DeepSpeed knows no {_SECTION}.preset_model {shown(preset)} and ignores it without a word",
            fix=", ".join(_PRESETS),
        )
    layers = case.get(_SECTION, "partition_config", "layer_specs")
    if not isinstance(layers, list) or not isinstance(size, int) or size <= 1:
        return
    for number, layer in enumerate(layers):
        kind = layer.get("partition_type", "column") if isinstance(layer, dict) else "column"
        if isinstance(kind, str) and kind.lower() not in _KINDS:
            place: Place = (_SECTION, "partition_config", "layer_specs", number, "partition_type")
            told = f"partition_type is {shown(kind)}, not column, row or skip"
            yield case.remark(
                "fail", "ds.type", place, told, leads="every rank fails in deepspeed.initialize"
            )
