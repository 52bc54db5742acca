"""Which number format to train in: the best that every device of the job does well."""

from __future__ import annotations

import math
import time

import torch

from errors import UserError
from ranks import Place, fail_together, gather

FASTEST_FIRST = ("bf16", "fp16", "fp32")
GEMM = 512
TRIES = 5
# The rest of a step gains less than its matrices.
WORTHWHILE = 1.3


def choose(requested: str, place: Place) -> tuple[str, str]:
    """The dtype for all ranks and the reason, for people. Collective.

    Raises UserError when a device cannot compute in the dtype that was asked for.
    """
    able, reason = _abilities(place)
    if requested != "auto":
        fail_together(_refusal(requested, able, place))
        return requested, "as asked"
    answers = gather((able[0], reason, place.host))
    # Listed from best to least, so the common ground is the answer that stands last.
    dtype, reason, host = max(answers, key=lambda answer: FASTEST_FIRST.index(answer[0]))
    unlike = any(answer[0] != dtype for answer in answers)
    return dtype, f"{reason} (on {host}; all ranks follow)" if unlike else reason


def _abilities(place: Place) -> tuple[tuple[str, ...], str]:
    """What this device does well, best first, and why the first is first."""
    if place.on_cpu:
        gain = _gain_of_bf16()
        times = f"multiplies bf16 {gain:.1f} x as fast as fp32"
        return (("bf16", "fp32") if gain >= WORTHWHILE else ("fp32", "bf16")), f"this CPU {times}"
    if place.device.type != "cuda":
        return FASTEST_FIRST, f"{place.device.type} device"
    major, minor = torch.cuda.get_device_capability(place.device)
    if (major, minor) >= (8, 0):
        return FASTEST_FIRST, f"sm_{major}{minor} computes in bf16"
    return ("fp16", "fp32"), f"sm_{major}{minor} has no bf16"


def _refusal(requested: str, able: tuple[str, ...], place: Place) -> UserError | None:
    if requested in able:
        return None
    return UserError(
        f"rank {place.rank} on {place.host} ({place.device.type}) cannot train in {requested}",
        hint=f"give --dtype {' or '.join(able)}, or auto",
    )


def _gain_of_bf16() -> float:
    """How many times as fast as fp32 this CPU multiplies matrices in bf16; the best of several tries each."""
    best = {torch.float32: math.inf, torch.bfloat16: math.inf}
    for _ in range(TRIES):
        # In turns, and by this thread's own time: who else uses the cores disturbs both alike.
        for dtype in best:
            matrix = torch.ones(GEMM, GEMM, dtype=dtype)
            matrix @ matrix
            began = time.thread_time()
            matrix @ matrix
            best[dtype] = min(best[dtype], time.thread_time() - began)
    return best[torch.float32] / best[torch.bfloat16]
