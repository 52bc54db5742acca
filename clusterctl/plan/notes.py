"""What the user should know of a plan before it starts, a sentence each. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping

from clusterctl.facts.model import Facts
from clusterctl.inventory.fold import fold
from clusterctl.plan import caches
from clusterctl.plan.defaults import DEVICE_ORDER, device_order
from clusterctl.plan.model import Setting

_USUAL = (
    "ACCELERATE_", "BNB_", "CLEARML_", "COMET_", "CUBLAS_", "CUDA_", "CUDNN_", "DEEPSPEED_", "DIFFUSERS_",
    "DS_", "FI_", "FLASH_ATTENTION_", "FSDP_", "GLOO_", "HF_", "HIP_", "HSA_", "HUGGINGFACE_",
    "HUGGING_FACE_", "KMP_", "MIOPEN_", "MKL_", "MLFLOW_", "NEPTUNE_", "NVIDIA_", "NVTE_", "OMP_",
    "PYTORCH_", "ROCR_", "TOKENIZERS_", "TORCHDYNAMO_", "TORCHELASTIC_", "TORCHINDUCTOR_", "TORCH_",
    "TRANSFORMERS_", "TRITON_", "UCX_", "VLLM_", "WANDB_", "XLA_",
)  # fmt: skip
"""How names begin that a training run usually needs. NCCL_* travels anyway."""
_OF_THIS_MACHINE = (
    "CUDA_HOME", "CUDA_PATH", "CUDA_VERSION", "DS_ENV_FILE", "NVIDIA_BUILD_", "NVIDIA_DRIVER_",
    "NVIDIA_PRODUCT_", "NVIDIA_PYTORCH_", "NVIDIA_REQUIRE_", "NVIDIA_VISIBLE_DEVICES", "PYTORCH_BUILD_",
    "PYTORCH_HOME", "PYTORCH_VERSION",
)  # fmt: skip
"""What container images and start-up files say of the machine itself: of no use on another one."""
_NAMED = 4
_CLAUSES = {
    "PYTHONPATH": "PYTHONPATH of this shell never travels: a profile's `activate` line sets one there",
    "CUDA_VISIBLE_DEVICES": "CUDA_VISIBLE_DEVICES of this shell does not count, slots do: --include HOST:0,1",
}
"""Variables that are not for --env."""


def staying(environ: Collection[str], settings: Mapping[str, Iterable[Setting]]) -> tuple[str, ...]:
    """Variables that are set here, that a run usually needs, and that some host will not have. Names only.

    ``settings`` are all that each host gets.
    """
    everywhere = [{setting.name for setting in of_host} for of_host in settings.values()]
    missing = [name for name in sorted(environ) if not all(name in names for names in everywhere)]
    found = [
        name
        for name in missing
        if name.startswith(_USUAL) and not name.startswith(_OF_THIS_MACHINE) and name not in _CLAUSES
    ]
    told = [clause for name, clause in _CLAUSES.items() if name in missing]
    if found:
        more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        which = f"--env {found[0]} sends {'it' if len(found) == 1 else 'one'}"
        told.insert(0, f"set here, will not travel: {', '.join(found[:_NAMED])}{more}; {which}")
    return tuple(told)


def of_hosts(
    facts: Mapping[str, Facts], own: Mapping[str, tuple[Setting, ...]], *, home_caches: bool = False
) -> tuple[str, ...]:
    """What is not as clusterctl would have it on some hosts."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for host, of_host in facts.items():
        value, origin = device_order(of_host, own[host])
        if value:
            found[f"{DEVICE_ORDER}={value} ({origin}): slots are then not nvidia-smi's numbers"].append(host)
        why = "" if home_caches else caches.why_none(of_host)
        if why:
            found[f"compiled kernels go to the shared home directory: {why}"].append(host)
    return tuple(f"{text} on {fold(hosts)}" for text, hosts in found.items())
