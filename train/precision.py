"""Which number format to train in: the best that every device of the job does well."""

from __future__ import annotations

from pathlib import Path

import torch

from errors import UserError
from ranks import Place, fail_together, gather

FASTEST_FIRST = ("bf16", "fp16", "fp32")


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
        if _cpu_multiplies_bf16():
            return ("bf16", "fp32"), "this CPU has AMX tiles for bf16"
        return ("fp32", "bf16"), "bf16 is slow on a CPU without AMX"
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


def _cpu_multiplies_bf16() -> bool:
    try:
        return "amx_bf16" in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
