"""A DeepSpeed configuration of what was recommended, with the settings that the figures assume."""

from __future__ import annotations

from typing import Any

from clusterctl.advise.fit.job import Job, Strategy
from clusterctl.advise.fit.memory import prefetched, reused
from clusterctl.advise.fit.shapes import Shape

NVME = "/local_nvme"


def ds_config(shape: Shape, job: Job, strategy: Strategy, *, on_cpu: bool) -> dict[str, Any]:
    """No train_batch_size, which would hold for one number of ranks only. ``lr`` is a start, not advice."""
    zero: dict[str, Any] = {"stage": strategy.stage}
    if strategy.stage:
        zero |= {"overlap_comm": not on_cpu, "contiguous_gradients": True, "reduce_bucket_size": job.bucket}
    if strategy.stage in (1, 2):
        zero |= {"allgather_bucket_size": job.bucket, "use_multi_rank_bucket_allreduce": False}
    if strategy.stage == 3:
        live = reused(shape)
        zero |= {
            "stage3_param_persistence_threshold": 10 * shape.hidden,
            "stage3_prefetch_bucket_size": prefetched(shape),
            "stage3_max_live_parameters": live,
            "stage3_max_reuse_distance": live,
            "stage3_gather_16bit_weights_on_model_save": True,
        }
    for key, place in (("offload_optimizer", strategy.states), ("offload_param", strategy.weights)):
        if place == "host":
            zero[key] = {"device": "cpu", "pin_memory": True}
        elif place == "disk":
            zero[key] = {"device": "nvme", "nvme_path": NVME}
    config: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": job.micro_batch,
        "gradient_accumulation_steps": job.accumulation,
        "gradient_clipping": 1.0,
        "zero_optimization": zero,
        "optimizer": {"type": "AdamW" if job.optimizer == "adamw" else "SGD", "params": {"lr": 1e-4}},
    }
    if on_cpu and job.optimizer == "adamw":
        config["optimizer"]["params"]["torch_adam"] = True  # DeepSpeed's own is compiled at the first start
    if job.optimizer == "sgd":
        config["optimizer"]["params"]["momentum"] = 0.9
        config["zero_allow_untested_optimizer"] = True
    if job.precision != "fp32":
        config[job.precision] = {"enabled": True}
    return config
