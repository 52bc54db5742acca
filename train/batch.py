"""The arithmetic of the batch: train_batch_size = samples per rank and pass x passes per step x ranks."""

from __future__ import annotations

from typing import Any

from errors import UserError

TOTAL = "train_batch_size"
MICRO = "train_micro_batch_size_per_gpu"
PASSES = "gradient_accumulation_steps"
DEFAULT_MICRO = 4


def settle(
    config: dict[str, Any], micro: int | None, passes: int | None, *, world_size: int
) -> tuple[int, int]:
    """Samples per rank and pass, and passes per step: as argued, else as in `config`, else inferred as
    DeepSpeed does. Raises UserError where the three and the number of ranks do not fit together."""
    for key in (TOTAL, MICRO, PASSES):
        value = config.get(key)
        if value is not None and (type(value) is not int or value < 1):
            raise UserError(f"the ds_config has {key} = {value!r}", hint="give a whole number above 0")
    total, micro, passes = config.get(TOTAL), micro or config.get(MICRO), passes or config.get(PASSES)
    if total is None:
        return micro or DEFAULT_MICRO, passes or 1
    if micro is None:
        passes = passes or 1
        micro = total // (passes * world_size)
    elif passes is None:
        passes = total // (micro * world_size)
    real = micro * passes * world_size
    if real != total:
        raise UserError(
            f"the ds_config has {TOTAL} {total}, but {micro} per rank x {passes} accumulated"
            f" x {world_size} ranks = {real}",
            hint=f"{_way_out(total, world_size)}leave {TOTAL} out: it changes with the number of ranks",
        )
    return micro, passes


def _way_out(total: int, world_size: int) -> str:
    each, left = divmod(total, world_size)
    return "" if left else f"give --micro_batch {each} --gas 1 (their product has to be {each}), or "
