"""Saving: the engine writes its files; this decides where, and records what was written."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch.distributed as dist

from engine import Engine
from errors import UserError
from ranks import Place, fail_together, gather

NAME = re.compile(r"step-(\d{6,})")
RECORD = "complete.json"
SHARD = re.compile(r"zero_pp_rank_(\d+)_")
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
        self._surplus = False

    def save(self, engine: Engine, step: int, samples: int) -> Path:
        """Write a checkpoint after `step`. Collective; raises UserError where a rank's disk takes no more."""
        path = self.directory / tag(step)
        if self.is_writer:
            # What an interrupted save left behind must not pass for whole.
            shutil.rmtree(path, ignore_errors=True)
        dist.barrier()
        state = {"step": step, "samples": samples}
        try:
            engine.save(path, is_writer=self.is_writer)
        except Exception as error:
            # torch tells of a full disk in terms of its archive: ask the disk.
            if (reason := _refusal(path)) is None:
                raise
            raise UserError(
                f"{self.place.host} cannot save {path}: {reason}",
                hint="make room there, then --resume auto: what was saved before is whole",
                rank_local=True,
            ) from error
        shards = gather({name: measure(path / name) for name in _shards(path, self.place.rank)})
        hosts = gather(self.place.host)
        if self.is_writer:
            files = {name: measure(path / name) for name in _common(path)}
            for measured in shards:
                files.update(measured)
            record = path / RECORD
            draft = record.with_suffix(".draft")
            content = json.dumps({**self.facts, **state, "hosts": hosts, "files": files}, indent=2)
            draft.write_text(content + "\n", encoding="utf-8")
            draft.rename(record)
        self._surplus = self.is_writer
        dist.barrier()
        return path

    def prune(self) -> None:
        """Remove the oldest checkpoints beyond `keep`, once the newest has proved to be one to go on from."""
        for path in _whole(self.directory)[: -self.keep] if self._surplus else ():
            (path / RECORD).unlink()
            shutil.rmtree(path)
        self._surplus = False


def tag(step: int) -> str:
    """What the checkpoint after `step` is called."""
    return f"step-{step:06d}"


def _refusal(directory: Path) -> str | None:
    """Why nothing can be written there, None where it can."""
    probe = directory / ".probe"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(bytes(1 << 20))
    except OSError as error:
        return error.strerror
    finally:
        with suppress(OSError):
            probe.unlink()
    return None


def measure(path: Path) -> tuple[int, str]:
    """Size and SHA-256."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return path.stat().st_size, digest.hexdigest()


def _is_shard_of(name: str, rank: int) -> bool:
    found = SHARD.search(name)
    return found is not None and int(found[1]) == rank


def is_read_by(name: str, rank: int) -> bool:
    """Whether `rank` resumes from this file of a checkpoint of as many ranks."""
    return not SHARD.search(name) or _is_shard_of(name, rank)


def _shards(path: Path, rank: int) -> list[str]:
    return [file.name for file in path.glob("*.pt") if _is_shard_of(file.name, rank)]


def _common(path: Path) -> list[str]:
    """Files that belong to no single rank."""
    return [file.name for file in path.glob("*.pt") if not SHARD.search(file.name)]


def _whole(root: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    found = [path.parent for path in root.glob(f"*/{RECORD}") if NAME.fullmatch(path.parent.name)]
    return sorted(found, key=lambda path: step_of(path.name))


def step_of(name: str) -> int:
    return int(name.partition("-")[2])
