"""Saving and resuming: DeepSpeed writes the shards; this decides where, which are whole, and what fits."""

from __future__ import annotations

import json
import re
import shutil
import uuid
from pathlib import Path
from typing import Any

import torch.distributed as dist

from errors import UserError
from ranks import Place, fail_together, gather

NAME = re.compile(r"step-(\d{6,})")
RECORD = "complete.json"
# A checkpoint continues only a run that agrees in these; the rest is noted.
MUST_AGREE = ("world_size", "zero_stage", "dtype", "n_layer", "d_model", "n_head", "vocab_size")
EXACT_WHEN_EQUAL = ("seq_len", "global_batch", "seed", "data", "dropout", "lr_decay_steps", "warmup")
IDENTIFYING_ARGUMENTS = (
    "n_layer",
    "d_model",
    "n_head",
    "seq_len",
    "dropout",
    "seed",
    "lr_decay_steps",
    "warmup",
)


def each_host_has_its_own(directory: Path, place: Place) -> bool:
    """Whether `directory` is another one on every host, rather than one on a shared filesystem. Collective.

    Raises UserError where it is shared by some hosts only: shards would overwrite each other.
    """
    mark = directory / f".seen-{uuid.uuid4().hex}" if place.local_rank == 0 else None
    problem = None
    if mark:
        try:
            directory.mkdir(parents=True, exist_ok=True)
            mark.touch()
        except OSError as error:
            problem = UserError(
                f"{place.host} cannot write to {directory}: {error.strerror}", hint="give another --save_dir"
            )
    fail_together(problem)
    marks = [name for name in gather(mark and mark.name) if name]
    # Asked by name, not listed: NFS may show an old listing for a while.
    views = gather([name for name in marks if (directory / name).exists()])
    if mark:
        mark.unlink()
    if all(len(view) == len(marks) for view in views):
        return False
    if all(len(view) == 1 for view in views):
        return True
    raise UserError(
        f"{directory} is shared by some hosts and not by others",
        hint="give a --save_dir that all hosts share, or one that is local on each",
    )


class Checkpoints:
    """The checkpoints of one run; with `node_local`, each host's `directory` holds its own ranks' shards."""

    def __init__(
        self, directory: Path, place: Place, *, node_local: bool, keep: int, facts: dict[str, Any]
    ) -> None:
        self.directory = directory
        self.place = place
        self.keep = keep
        self.facts = facts
        self.is_writer = place.local_rank == 0 if node_local else place.is_first

    def save(self, engine: Any, step: int, samples: int) -> Path:
        """Write a checkpoint after `step`, and remove the oldest beyond `keep`. Collective."""
        tag = f"step-{step:06d}"
        path = self.directory / tag
        if self.is_writer:
            # What an interrupted save left behind must not pass for whole.
            shutil.rmtree(path, ignore_errors=True)
        dist.barrier()
        state = {"step": step, "samples": samples}
        engine.save_checkpoint(str(self.directory), tag=tag, client_state=state, save_latest=False)
        if self.is_writer:
            record = path / RECORD
            draft = record.with_suffix(".draft")
            draft.write_text(json.dumps({**self.facts, **state}, indent=2) + "\n", encoding="utf-8")
            draft.rename(record)
            self._prune()
        dist.barrier()
        return path

    def _prune(self) -> None:
        for path in _whole(self.directory)[: -self.keep]:
            (path / RECORD).unlink()
            shutil.rmtree(path)


def newest(where: Path) -> Path | None:
    """The newest checkpoint in `where` (or it itself) that every rank sees whole, else None. Collective."""
    if NAME.fullmatch(where.name):
        root, found = where.parent, [where] if (where / RECORD).is_file() else []
    else:
        root, found = where, _whole(where)
    common = set.intersection(*(set(names) for names in gather([path.name for path in found])))
    return root / max(common, key=_step) if common else None


def require_none_beyond(directory: Path, step: int) -> None:
    """Refuse to go on at `step` where `directory` holds later checkpoints. Collective; raises UserError.

    They are another run's: sorted among ours, they would push ours out, and be what `auto` resumes.
    """
    later = newest(directory)
    if later is not None and _step(later.name) > step:
        raise UserError(
            f"{directory} holds {later.name} of an earlier run, and this one goes on at step {step}",
            hint="--resume auto goes on from there; else give another --save_dir, or remove it",
        )


def compare(path: Path, facts: dict[str, Any]) -> list[str]:
    """What makes a run with `facts` another one than that of the checkpoint, though it can go on. Collective.

    Raises UserError where it cannot go on: another number of ranks, another model.
    """
    record = json.loads((path / RECORD).read_text(encoding="utf-8"))
    fail_together(_mismatch(path, record, facts))
    differing = [name for name in EXACT_WHEN_EQUAL if record[name] != facts[name]]
    return [f"{name} was {record[name]}, now {facts[name]}" for name in differing]


def load(engine: Any, path: Path, place: Place) -> tuple[int, int]:
    """Restore weights, optimizer and schedule; the steps done and the samples consumed. Collective."""
    shards = list(path.glob(f"*zero_pp_rank_{place.rank}_mp_rank_00_optim_states.pt"))
    missing = None
    if engine.zero_optimization() and not shards:
        missing = UserError(
            f"{place.host} has no shard of rank {place.rank} in {path}",
            hint="start the hosts in the order of the run that wrote it, or bring its shards to this host",
        )
    fail_together(missing)
    _, state = engine.load_checkpoint(str(path.parent), tag=path.name)
    return state["step"], state["samples"]


def _mismatch(path: Path, record: dict[str, Any], facts: dict[str, Any]) -> UserError | None:
    if record["world_size"] != facts["world_size"]:
        return UserError(
            f"{path.name} was written by {record['world_size']} ranks, this run has {facts['world_size']}",
            hint=f"DeepSpeed resumes on as many ranks only: start {record['world_size']},"
            " or begin anew with another --save_dir",
        )
    for name in MUST_AGREE:
        if record[name] != facts[name]:
            return UserError(
                f"{path.name} has {name} {record[name]}, this run has {facts[name]}",
                hint="repeat the arguments of the run that wrote it, or begin anew with another --save_dir",
            )
    return None


def _whole(root: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    found = [path.parent for path in root.glob(f"*/{RECORD}") if NAME.fullmatch(path.parent.name)]
    return sorted(found, key=lambda path: _step(path.name))


def _step(name: str) -> int:
    return int(name.partition("-")[2])
