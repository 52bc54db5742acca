"""Which of the Trainer's checkpoints a fine-tuning goes on from."""

from __future__ import annotations

import re
from pathlib import Path

from errors import UserError
from progress import say
from ranks import Place, gather

CHECKPOINT = re.compile(r"checkpoint-(\d+)")


def newest(resume: str | None, save_dir: Path, place: Place, *, sharded: bool) -> Path | None:
    """The newest checkpoint that is whole on all ranks, or the one that was named. Collective."""
    if resume is None:
        return None
    root = save_dir if resume == "auto" else Path(resume).expanduser().resolve()
    if CHECKPOINT.fullmatch(root.name):
        root, names = root.parent, [root.name]
    else:
        names = [path.name for path in root.glob("checkpoint-*") if CHECKPOINT.fullmatch(path.name)]
    # The Trainer writes its state last, and each of several ranks a file of its own.
    mine = f"rng_state_{place.rank}.pth" if place.world_size > 1 else "rng_state.pth"
    needed = ("trainer_state.json", mine) if sharded else ("trainer_state.json",)
    whole = {name for name in names if all((root / name / file).is_file() for file in needed)}
    seen: set[str] = set().union(*gather(set(names)))
    common: set[str] = set.intersection(*gather(whole))
    if not common:
        if resume == "auto" and not seen:
            return None
        raise UserError(
            f"no checkpoint in {root} is whole for {place.world_size} ranks",
            hint="start as many ranks, and the hosts in the same order, as in the run that wrote it",
        )
    found = root / max(common, key=_step)
    if place.is_first and max(seen, key=_step) != found.name:
        say(f"{max(seen, key=_step)} is passed over: it is not whole on all ranks")
    more = any(gather((found / f"rng_state_{place.world_size}.pth").exists()))
    if sharded and more:
        raise UserError(
            f"{found.name} was written by more ranks than the {place.world_size} of this run",
            hint="DeepSpeed resumes on as many ranks only; --strategy ddp on any number",
        )
    return found


def _step(name: str) -> int:
    return int(name.partition("-")[2])
