"""Where this process stands among all: rank, host and device; and what all ranks agree on."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from errors import UserError

# One rank per host tokenises or downloads while the others wait in a barrier.
COLLECTIVE_TIMEOUT = timedelta(minutes=30)
BACKENDS = {"cpu": "gloo", "cuda": "nccl", "xpu": "xccl", "npu": "hccl"}


@dataclass(frozen=True, kw_only=True)
class Place:
    """One process of the job. `local_rank` counts within its host; hosts may have unequal counts of ranks."""

    rank: int
    world_size: int
    local_rank: int
    host: str
    device: torch.device
    backend: str

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    @property
    def on_cpu(self) -> bool:
        return self.device.type == "cpu"


def join(local_rank_argument: int | None) -> Place:
    """Take this process's device and meet the other ranks; alone without a launcher.

    Raises UserError when the launcher's variables are incomplete or the host has no such GPU.
    """
    _complete_environment(local_rank_argument)
    local_rank = int(os.environ["LOCAL_RANK"])
    kind = _device_type()
    if kind == "cpu":
        device = torch.device("cpu")
        _share_cores()
    else:
        devices = torch.get_device_module(kind)
        _require_device(local_rank, devices.device_count())
        devices.set_device(local_rank)
        device = torch.device(kind, local_rank)
    backend = BACKENDS[kind]
    dist.init_process_group(backend, timeout=COLLECTIVE_TIMEOUT)
    return Place(
        rank=dist.get_rank(),
        world_size=dist.get_world_size(),
        local_rank=local_rank,
        host=socket.gethostname(),
        device=device,
        backend=backend,
    )


def leave() -> None:
    """Wait for the other ranks before this one exits: without it, some exits abort after a success.

    The group is not destroyed: that joins gloo's thread under Python's lock, for which the thread may wait.
    """
    if dist.is_initialized():
        dist.barrier()


def gather(value: Any) -> list[Any]:
    """`value` of every rank, by rank. Collective."""
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def fail_together(error: UserError | None) -> None:
    """Raise on all ranks the first error that any rank has. Collective."""
    for found in gather((error.message, error.hint) if error else None):
        if found:
            raise UserError(found[0], hint=found[1]) from error


def _complete_environment(local_rank_argument: int | None) -> None:
    given = [name for name in ("RANK", "WORLD_SIZE") if name in os.environ]
    if len(given) == 1:
        raise UserError(
            f"{given[0]} is set but {'RANK' if given[0] == 'WORLD_SIZE' else 'WORLD_SIZE'} is not",
            hint="start with torchrun or deepspeed, or unset both for a single process",
            rank_local=True,
        )
    if not given:
        os.environ.update(RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(_free_port()))
    os.environ.setdefault("LOCAL_RANK", str(local_rank_argument or 0))


def _device_type() -> str:
    # DeepSpeed's variable; set, it will not look for itself and come to another answer.
    found = "cuda" if torch.cuda.is_available() else "xpu" if torch.xpu.is_available() else "cpu"
    return os.environ.setdefault("DS_ACCELERATOR", found)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _require_device(local_rank: int, devices: int) -> None:
    if local_rank >= devices:
        raise UserError(
            f"{socket.gethostname()} has {devices} visible GPU(s), local rank {local_rank} has none",
            hint="start no more ranks than GPUs on this host, or look at CUDA_VISIBLE_DEVICES",
            rank_local=True,
        )


def _share_cores() -> None:
    if "OMP_NUM_THREADS" not in os.environ:
        # The name that torchrun gives, and the one that DeepSpeed's launcher gives.
        neighbours = int(os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("LOCAL_SIZE") or 1)
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // neighbours))
