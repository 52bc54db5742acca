"""``tensor_parallel``: which layers are split over ranks, and how."""

from __future__ import annotations

from collections.abc import Iterator

from clusterctl.advise.lint.case import Case, Remark, counted, shown
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
    kinds = [layer.get("partition_type") if isinstance(layer, dict) else None for layer in layers]
    wrong = [at for at, kind in enumerate(kinds) if isinstance(kind, str) and kind.lower() not in _KINDS]

    def told(number: int) -> Remark:
        place: Place = (_SECTION, "partition_config", "layer_specs", number, "partition_type")
        what = f"partition_type is {shown(kinds[number])}, not column, row or skip"
        return case.remark("fail", "ds.type", place, what, leads="every rank fails in deepspeed.initialize")

    yield from counted(wrong, told)
