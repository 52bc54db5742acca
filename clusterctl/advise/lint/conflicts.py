"""Settings that exclude each other, that do nothing together, or that this machine cannot do."""

from __future__ import annotations

from collections.abc import Iterator

from clusterctl.advise.lint.case import Case, Remark, named, shown
from clusterctl.advise.lint.precision import bf16

_ZERO = "zero_optimization"
_START = "every rank fails in deepspeed.initialize"
_GB = 1e9
_GATHERS = (
    "stage3_gather_16bit_weights_on_model_save",
    "gather_16bit_weights_on_model_save",
    "stage3_gather_fp16_weights_on_model_save",
)
_OVERLAP = 4.5
"""So many times its buckets take communication that overlaps, by transformers' documentation."""
_BUCKETS = {"reduce_bucket_size": 5e8, "allgather_bucket_size": 5e8}
_SHARDED_BUCKETS = {"reduce_bucket_size": 5e8, "stage3_prefetch_bucket_size": 5e7}
"""DeepSpeed's defaults, in elements; the former is made in its full size for any model."""
_ENOUGH = 1e9
"""Bytes of locked memory that buffers of an optimizer on NVMe need as a rule."""


def judge(case: Case) -> Iterator[Remark]:
    yield from _stage(case)
    yield from _offload(case)
    yield from _communication(case)
    yield from _prescaled(case)
    yield from _one_rank(case)
    yield from _on_cpus(case)
    yield from _buckets(case)
    yield from _locked(case)


def _stage(case: Case) -> Iterator[Remark]:
    stage = case.stage
    if stage is None:
        return
    zero = case.section(_ZERO)
    if stage and case.on(_ZERO, "legacy_stage1"):
        told = f"{_ZERO}.legacy_stage1 is no longer there"
        yield case.remark("fail", "ds.stage", (_ZERO, "legacy_stage1"), told, leads=_START)
    if zero.get("compute_grad_norm", True) in (False, 0):
        yield from _no_norm(case, stage)
    size = zero.get("allgather_bucket_size")
    size = int(size) if isinstance(size, str) and size.isdecimal() else size
    if stage in (1, 2) and isinstance(size, int) and size % 2:
        told = f"allgather_bucket_size {shown(size)} is odd, and must be even"
        yield case.remark("fail", "ds.type", (_ZERO, "allgather_bucket_size"), told, leads=_START)
    if str(case.get("gradient_allreduce_op")).lower() == "sum":
        others = {
            "ZeRO stage 3": stage == 3,
            "ZenFlow": case.get(_ZERO, "zenflow") is not None,
            "DeepCompile": case.on("compile", "deepcompile"),
        }
        if other := next((name for name, there in others.items() if there), ""):
            told = f'gradient_allreduce_op "sum" does not go with {other}'
            yield case.remark("fail", "ds.stage", ("gradient_allreduce_op",), told, leads=_START)
    gathers = any(zero.get(key) == "auto" or case.on(_ZERO, key) for key in _GATHERS)
    if stage == 3 and case.situation.reader == "transformers" and not gathers:
        yield case.remark(
            "warn",
            "ds.save",
            (_ZERO, "stage"),
            f"ZeRO stage 3 without {_GATHERS[0]}",
            leads="a save has no model.safetensors, only shards and zero_to_fp32.py",
            fix=f'"{_GATHERS[0]}": true',
        )


def _prescaled(case: Case) -> Iterator[Remark]:
    """Stages 2 and 3 scatter gradients by default, and divide them afterwards."""
    if case.stage not in (2, 3) or case.get(_ZERO, "reduce_scatter") is False:
        return
    if str(case.get("gradient_allreduce_op")).lower() == "sum":
        return
    wrong = [("prescale_gradients",)] if case.on("prescale_gradients") else []
    if case.get("gradient_predivide_factor") not in (None, 1):
        wrong.append(("gradient_predivide_factor",))
    for place in wrong:
        told = f"{place[0]} does not go with reduce_scatter at ZeRO stage {case.stage}, which is its default"
        fix = f'"reduce_scatter": false in {_ZERO}, or leave "{place[0]}" out'
        yield case.remark("fail", "ds.stage", place, told, leads=_START, fix=fix)


def _no_norm(case: Case, stage: int) -> Iterator[Remark]:
    """compute_grad_norm false: what needs the norm all the same."""
    place = (_ZERO, "compute_grad_norm")
    needed = ""
    if stage not in (1, 2):
        needed = f"needs ZeRO stage 1 or 2, and the stage is {stage}"
    elif case.get("gradient_clipping") not in (0, False):
        needed = 'needs "gradient_clipping": 0, which is not its default'
    elif case.device("offload_optimizer") or case.get(_ZERO, "zenflow") is not None:
        needed = "does not go with an offloaded optimizer"
    if needed:
        yield case.remark("fail", "ds.stage", place, f"compute_grad_norm false {needed}", leads=_START)


def _on_cpus(case: Case) -> Iterator[Remark]:
    """What there is for GPUs only."""
    if not case.situation.machines.cpu:
        return
    places: list[tuple[str, ...]] = [
        (_ZERO, "offload_optimizer", "super_offload"),
        (_ZERO, "zero_quantized_nontrainable_weights"),
        (_ZERO, "zero_quantized_weights"),
        ("aio", "use_gds"),
    ]
    for place in places:
        if case.on(*place) and (case.stage == 3 or place[0] != _ZERO):
            told = f"{named(place)} needs GPUs, and the hosts have none"
            yield case.remark("fail", "ds.stage", place, told, leads=_START, fix=f'leave "{place[-1]}" out')


def _offload(case: Case) -> Iterator[Remark]:
    stage, zero = case.stage, case.section(_ZERO)
    if stage is None:
        return
    if case.device("offload_param") and stage != 3:
        told = f"offload_param does nothing at ZeRO stage {stage}: it is of stage 3 only"
        yield case.remark("warn", "ds.ignored", (_ZERO, "offload_param"), told, fix='"stage": 3')
    optimizer = case.device("offload_optimizer")
    if optimizer and stage == 0:
        told = "offload_optimizer at ZeRO stage 0: nothing is sharded or offloaded"
        fix = '"stage": 1 or above, or leave it out'
        yield case.remark("warn", "ds.ignored", (_ZERO, "offload_optimizer"), told, fix=fix)
    if optimizer == "nvme" and stage in (1, 2):
        told = f"offload to NVMe is of ZeRO stage 3 only: at stage {stage} the optimizer goes to RAM"
        fix = '"device": "cpu", or "stage": 3'
        yield case.remark("warn", "ds.ignored", (_ZERO, "offload_optimizer", "device"), told, fix=fix)
    for what in ("offload_optimizer", "offload_param"):
        section = case.section(_ZERO, what)
        missing = not section.get("nvme_path") and case.situation.reader != "script"
        if stage == 3 and case.device(what) == "nvme" and missing:
            yield case.remark(
                "fail",
                "ds.nvme",
                (_ZERO, what, "device"),
                f'{what}.device is "nvme", and nvme_path is not there',
                leads=_START,
                fix='"nvme_path": "/DIRECTORY" on a local NVMe disk of every host',
            )
    ratio = case.section(_ZERO, "offload_optimizer").get("ratio", 1.0)
    if isinstance(ratio, (int, float)) and 0 <= ratio < 1 and stage != 3:
        told = f"offload_optimizer.ratio {ratio:g}: a part can be offloaded at ZeRO stage 3 only"
        yield case.remark("fail", "ds.stage", (_ZERO, "offload_optimizer", "ratio"), told, leads=_START)
    forced = case.get("zero_force_ds_cpu_optimizer") is not False
    plain = case.situation.reader != "transformers" and case.get("optimizer") is None
    if optimizer and stage and plain and forced and zero:
        yield case.remark(
            "info",
            "ds.optimizer",
            (_ZERO, "offload_optimizer"),
            "offload_optimizer, and no optimizer here: DeepSpeed refuses one of the script's that is not "
            "DeepSpeedCPUAdam",
            fix='"optimizer": {"type": "AdamW", "params": {...}}\n"zero_force_ds_cpu_optimizer": false',
        )


def _communication(case: Case) -> Iterator[Remark]:
    value = case.get("gradient_clipping")
    if value is not None and value != "auto" and not isinstance(value, (int, float)):
        told = f"gradient_clipping is {shown(value)}, not a number"
        yield case.remark("fail", "ds.type", ("gradient_clipping",), told, leads="the first step fails")


def _one_rank(case: Case) -> Iterator[Remark]:
    if case.situation.ranks == 1 and case.stage:
        told = f"with one rank ZeRO stage {case.stage} has nothing to shard; only offload saves GPU memory"
        yield case.remark("info", "ds.stage", (_ZERO, "stage"), told)


def _buckets(case: Case) -> Iterator[Remark]:
    memory, zero = case.situation.machines.gpu_memory, case.section(_ZERO)
    if memory is None or case.stage not in (1, 2, 3):
        return
    names = _SHARDED_BUCKETS if case.stage == 3 else _BUCKETS
    sizes = [zero.get(key, default) for key, default in names.items()]
    if not all(isinstance(size, (int, float)) and not isinstance(size, bool) for size in sizes):
        return
    overlaps = case.on(_ZERO, "overlap_comm") or (case.stage == 3 and zero.get("overlap_comm") is None)
    times = (2 if case.stage == 3 else _OVERLAP) if overlaps else 1
    needed = sum(sizes) * _width(case) * times
    if needed > memory / 4:
        yield case.remark(
            "warn",
            "ds.buckets",
            (_ZERO, "reduce_bucket_size"),
            f"buckets take up to {needed / _GB:.1f} GB of the {memory / _GB:.0f} GB of a GPU",
            fix=", ".join(f'"{key}": 5e7' for key in names),
        )


def _locked(case: Case) -> Iterator[Remark]:
    """DeepSpeed locks the buffers of NVMe itself; CUDA pins what goes to RAM, which no limit holds."""
    limit = case.situation.machines.lockable
    if limit is None or not case.stage:
        return
    for what in ("offload_param", "offload_optimizer"):
        section, device = case.section(_ZERO, what), case.device(what)
        if device == "nvme" and case.stage == 3:
            needed = _ENOUGH
            if what == "offload_param":
                count, elements = section.get("buffer_count", 5), section.get("buffer_size", 1e8)
                if isinstance(count, int) and isinstance(elements, (int, float)):
                    needed = count * elements * _width(case)
            if limit < needed:
                yield case.remark(
                    "warn",
                    "ds.locked",
                    (_ZERO, what),
                    f"{what} to NVMe locks about {needed / _GB:.1f} GB of buffers in memory, "
                    f"and a session on the hosts may lock {limit / 1e6:.1f} MB",
                    leads="mlock fails on every rank, and DeepSpeed with it",
                    fix="`USER - memlock unlimited` in /etc/security/limits.d on the hosts, and log in again",
                )
        elif device == "cpu" and limit < _ENOUGH and section.get("pin_memory", True) is True:
            yield case.remark(
                "info",
                "ds.locked",
                (_ZERO, what),
                f"{what}.pin_memory: CUDA pins memory beside the limit of {limit / 1e6:.1f} MB (ulimit -l); "
                "with DS_PIN_MEMORY_BACKEND=native DeepSpeed locks it itself, and fails",
            )


def _width(case: Case) -> int:
    """Bytes of one element."""
    return 2 if case.on(bf16(case), "enabled") or case.on("fp16", "enabled") else 4
