"""Saving and resuming: DeepSpeed writes the shards; this decides where, which are whole, and what fits."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import uuid
from pathlib import Path
from typing import Any

import torch.distributed as dist

from engine import Engine
from errors import UserError
from ranks import Place, fail_together, gather

NAME = re.compile(r"step-(\d{6,})")
RECORD = "complete.json"
SHARD = re.compile(r"zero_pp_rank_(\d+)_")
# A checkpoint continues only a run that agrees in these; the rest is noted.
MUST_AGREE = ("dtype", "n_layer", "d_model", "n_head", "vocab_size")
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

    def save(self, engine: Engine, step: int, samples: int) -> Path:
        """Write a checkpoint after `step`, and remove the oldest beyond `keep`. Collective."""
        tag = f"step-{step:06d}"
        path = self.directory / tag
        if self.is_writer:
            # What an interrupted save left behind must not pass for whole.
            shutil.rmtree(path, ignore_errors=True)
        dist.barrier()
        state = {"step": step, "samples": samples}
        engine.save(path, is_writer=self.is_writer)
        shards = gather({name: _measure(path / name) for name in _shards(path, self.place.rank)})
        if self.is_writer:
            files = {name: _measure(path / name) for name in _common(path)}
            for measured in shards:
                files.update(measured)
            record = path / RECORD
            draft = record.with_suffix(".draft")
            content = json.dumps({**self.facts, **state, "files": files}, indent=2)
            draft.write_text(content + "\n", encoding="utf-8")
            draft.rename(record)
            self._prune()
        dist.barrier()
        return path

    def newest_intact(self) -> tuple[Path | None, list[str]]:
        """The newest checkpoint whose files are what was written, and what is wrong with newer ones, which
        count as unfinished from now on. Collective."""
        notes = []
        while (path := newest(self.directory)) is not None and (reason := torn(path, self.place)):
            notes.append(f"{path.name} is passed over: {reason}")
            if self.is_writer:
                (path / RECORD).unlink()
            dist.barrier()
        return path, notes

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


def torn(path: Path, place: Place) -> str | None:
    """What is wrong with a file of the checkpoint, the same on all ranks; None where all are as written.

    Each rank reads its own shards, and one on each host what all ranks load. Collective.
    """
    return next((reason for reason in gather(_torn_here(path, place)) if reason), None)


def _torn_here(path: Path, place: Place) -> str | None:
    try:
        files = json.loads((path / RECORD).read_text(encoding="utf-8")).get("files", {})
        for name, (size, digest) in files.items():
            mine = _is_shard_of(name, place.rank)
            if not mine and SHARD.search(name):
                continue
            found = (path / name).stat().st_size
            if found != size:
                return f"{place.host}: {name} has {found:,} of {size:,} bytes"
            if (mine or place.local_rank == 0) and _measure(path / name)[1] != digest:
                return f"{place.host}: {name} is not what was written"
    except (OSError, ValueError, AttributeError, TypeError) as error:
        return f"{place.host}: {error}"
    return None


def _measure(path: Path) -> tuple[int, str]:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return path.stat().st_size, digest.hexdigest()


def _is_shard_of(name: str, rank: int) -> bool:
    found = SHARD.search(name)
    return found is not None and int(found[1]) == rank


def _shards(path: Path, rank: int) -> list[str]:
    return [file.name for file in path.glob("*.pt") if _is_shard_of(file.name, rank)]


def _common(path: Path) -> list[str]:
    """Files that belong to no single rank."""
    return [file.name for file in path.glob("*.pt") if not SHARD.search(file.name)]


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


def read(path: Path) -> dict[str, Any]:
    """What a checkpoint says of itself: the facts of its run, `step`, and `samples` consumed."""
    record: dict[str, Any] = json.loads((path / RECORD).read_text(encoding="utf-8"))
    # Written before there was more than ZeRO.
    record.setdefault("engine", f"zero{record.get('zero_stage')}")
    return record


def compare(path: Path, record: dict[str, Any], facts: dict[str, Any]) -> list[str]:
    """What makes a run with `facts` another one than that of the checkpoint, though it can go on. Collective.

    Raises UserError where it cannot go on: another number of ranks, another model.
    """
    fail_together(_mismatch(path, record, facts))
    differing = [name for name in EXACT_WHEN_EQUAL if record[name] != facts[name]]
    return [f"{name} was {record[name]}, now {facts[name]}" for name in differing]


def _mismatch(path: Path, record: dict[str, Any], facts: dict[str, Any]) -> UserError | None:
    if record["engine"] != facts["engine"]:
        return UserError(
            f"{path.name} was written by --strategy {record['engine']}, this run is {facts['engine']}",
            hint="resume with the strategy that wrote it, or begin anew with another --save_dir",
        )
    if record["world_size"] != facts["world_size"] and facts["engine"] != "ddp":
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
