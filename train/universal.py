"""ZeRO checkpoints for another number of ranks: DeepSpeed's universal form, made when it is needed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch.distributed as dist

from checkpoint import each_host_has_its_own
from errors import UserError
from ranks import Place, fail_together


@contextmanager
def converted(path: Path, place: Place) -> Iterator[Path]:
    """The universal form of the checkpoint, beside it until it is read. Collective; raises UserError."""
    form = path.with_name(f"{path.name}.universal")
    node_local = each_host_has_its_own(path.parent, place)
    is_maker = place.local_rank == 0 if node_local else place.is_first
    fail_together(_convert(path, form, place) if is_maker else None)
    try:
        yield form
    finally:
        dist.barrier()
        if is_maker:
            shutil.rmtree(form)


def _convert(path: Path, form: Path, place: Place) -> UserError | None:
    shutil.rmtree(form, ignore_errors=True)
    command = [sys.executable, "-m", "deepspeed.checkpoint.ds_to_universal", "--inject_missing_state"]
    folders = ["--input_folder", str(path), "--output_folder", str(form)]
    done = subprocess.run([*command, *folders], capture_output=True, text=True, check=False)
    # Written for those who name no directory when they load.
    (path.parent / "latest_universal").unlink(missing_ok=True)
    if done.returncode == 0:
        return None
    shutil.rmtree(form, ignore_errors=True)
    last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    return UserError(
        f"{place.host}: DeepSpeed cannot convert {path.name} for another number of ranks: {last[:200]}",
        hint="resume on as many ranks as wrote it",
    )
