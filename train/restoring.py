"""Which checkpoint a run goes on from: the newest of which every file is somewhere as it was written."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from checkpoint import NAME, RECORD, SHARD, is_read_by, measure, step_of
from errors import UserError
from ranks import Place, fail_together, gather

# A run that differs in one of these cannot go on from a checkpoint; the rest is noted.
MUST_AGREE = ("dtype", "seq_len", "n_layer", "d_model", "n_head", "vocab_size")
EXACT_WHEN_EQUAL = ("global_batch", "seed", "data", "dropout", "lr_decay_steps", "warmup")
BLOCK = 64 << 20
# Stands in a record that could not be read.
PROBLEM = "problem"
UNKNOWN: dict[str, Any] = {PROBLEM: None}


@dataclass(frozen=True, kw_only=True)
class Found:
    """A checkpoint that was completed, by what its record says: the facts of its run, and its files."""

    path: Path
    record: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Torn:
    """What is wrong with a checkpoint, and what to do about it."""

    reason: str
    hint: str


def newest(where: Path, place: Place, *, but: Collection[str] = ()) -> Found | None:
    """The newest checkpoint in `where` (or it itself) of which a host has the record. Collective."""
    single = NAME.fullmatch(where.name) is not None
    root = where.parent if single else where
    here = {}
    for file in where.glob(RECORD if single else f"*/{RECORD}") if place.local_rank == 0 else ():
        name = file.parent.name
        if NAME.fullmatch(name) and name not in but:
            here[name] = _read(file)
    known: dict[str, dict[str, Any]] = {}
    for records in gather(here):
        known.update(
            {name: record for name, record in records.items() if PROBLEM in known.get(name, UNKNOWN)}
        )
    if not known:
        return None
    name = max(known, key=step_of)
    # Of the files that each host has for itself, its own record knows.
    mine = here.get(name, UNKNOWN)
    return Found(path=root / name, record=known[name] if PROBLEM in mine else mine)


def newest_intact(where: Path, place: Place) -> tuple[Found | None, list[str]]:
    """The newest checkpoint whose files are what was written, and what is wrong with newer ones, which count
    as unfinished from now on. Collective; raises UserError where there are some and all are torn: they may be
    whole again on other hosts, or when a file has been copied."""
    passed: dict[str, Torn] = {}
    while (found := newest(where, place, but=passed)) is not None and (problem := torn(found, place)):
        passed[found.path.name] = problem
    if found is None and passed:
        name, first = next(iter(passed.items()))
        raise UserError(f"no checkpoint in {where} is whole: {name}: {first.reason}", hint=first.hint)
    if place.local_rank == 0:
        for name in passed:
            (where / name / RECORD).unlink(missing_ok=True)
    dist.barrier()
    return found, [f"{name} is passed over: {problem.reason}" for name, problem in passed.items()]


def require_none_beyond(directory: Path, step: int, place: Place) -> None:
    """Refuse to go on at `step` where `directory` holds later checkpoints. Collective; raises UserError.

    They are another run's: sorted among ours, they would push ours out, and be what `auto` resumes.
    """
    later = newest(directory, place)
    if later is not None and step_of(later.path.name) > step:
        raise UserError(
            f"{directory} holds {later.path.name} of an earlier run, and this one goes on at step {step}",
            hint="--resume auto goes on from there; else give another --save_dir, or remove it",
        )


def _read(file: Path) -> dict[str, Any]:
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        return {"files": {}, **record}
    except (OSError, ValueError, TypeError) as error:
        return {PROBLEM: str(error), "files": {}}


def torn(found: Found, place: Place) -> Torn | None:
    """What is wrong with the files of a checkpoint, the same on all ranks; None where all are as written.

    A shard is read by one of those who have it, and by one on each host what all ranks load. Collective.
    """
    copy = Torn(reason="", hint="copy it again, or begin anew with another --save_dir")
    if PROBLEM in found.record:
        return replace(copy, reason=f"its {RECORD} is no record: {found.record[PROBLEM]}")
    files = found.record["files"]
    holders = gather([name for name in files if (found.path / name).exists()])
    problems = []
    for index, (name, (size, digest)) in enumerate(sorted(files.items())):
        ranks = [rank for rank, names in enumerate(holders) if name in names]
        if not ranks:
            problems.append(_on_no_host(found, name))
        elif place.rank == ranks[index % len(ranks)] if SHARD.search(name) else place.local_rank == 0:
            problem = difference(found.path / name, size, digest)
            problems += [replace(copy, reason=f"{place.host}: {name} {problem}")] if problem else []
    return next(chain.from_iterable(gather(problems)), None)


def _on_no_host(found: Found, name: str) -> Torn:
    shard, hosts = SHARD.search(name), found.record.get("hosts")
    owner = hosts[int(shard[1]) if shard else 0] if hosts else "the host that wrote it"
    return Torn(
        reason=f"{name} is on no host of this run, {owner} wrote it",
        hint=f"let {owner} take part again, or bring what it has to one that does:"
        f" scp '{owner}:{found.path}/*' {found.path}/",
    )


def difference(path: Path, size: int, digest: str) -> str | None:
    try:
        length = path.stat().st_size
        if length != size:
            return f"has {length:,} of {size:,} bytes"
        return None if measure(path)[1] == digest else "is not what was written"
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def fetch(found: Found, place: Place, *, everything: bool) -> None:
    """Let each rank have what it will read, or `everything`, from another host if need be. Collective."""
    needed = [name for name in found.record["files"] if everything or is_read_by(name, place.rank)]
    if any(gather(any(not (found.path / name).exists() for name in needed))):
        _bring_together(found, place)


def _bring_together(found: Found, place: Place) -> None:
    """Give each host the files that only others have. Collective."""
    path, first = found.path, place.local_rank == 0
    if first:
        path.mkdir(parents=True, exist_ok=True)
    held = gather([name for name in found.record["files"] if (path / name).exists()] if first else None)
    for name in sorted(found.record["files"]):
        lacking = [names for names in held if names is not None and name not in names]
        if lacking:
            owner = next(rank for rank, names in enumerate(held) if names and name in names)
            wanted = first and name not in held[place.rank]
            _send(path / name, found.record["files"][name][0], owner, wanted, place)


def _send(path: Path, size: int, owner: int, wanted: bool, place: Place) -> None:
    draft = path.with_suffix(".draft")
    source = path.open("rb") if place.rank == owner else None
    target = draft.open("wb") if wanted else None
    for begin in range(0, size, BLOCK):
        block = torch.empty(min(BLOCK, size - begin), dtype=torch.uint8, device=place.device)
        if source:
            block.copy_(torch.frombuffer(bytearray(source.read(block.numel())), dtype=torch.uint8))
        dist.broadcast(block, owner)
        if target:
            target.write(block.cpu().numpy().tobytes())
    for file in (source, target):
        if file:
            file.close()
    if wanted:
        draft.rename(path)


def compare(found: Found, facts: dict[str, Any]) -> list[str]:
    """What makes a run with `facts` another one than that of the checkpoint, though it can go on. Collective.

    Raises UserError where it cannot go on: another model, another kind of engine.
    """
    record = found.record
    fail_together(_mismatch(found.path.name, record, facts))
    differing = [name for name in EXACT_WHEN_EQUAL if record[name] != facts[name]]
    return [f"{name} was {record[name]}, now {facts[name]}" for name in differing]


def _mismatch(name: str, record: dict[str, Any], facts: dict[str, Any]) -> UserError | None:
    begin_anew = "or begin anew with another --save_dir"
    if "engine" not in record or any(key not in record for key in (*MUST_AGREE, *EXACT_WHEN_EQUAL)):
        return UserError(
            f"{name} was not written by this version of pretrain.py, whose model is another",
            hint=f"resume with the version that wrote it, {begin_anew}",
        )
    if record["engine"] == "zero3-nvme":
        # It loads without a word, and the losses after it are others.
        return UserError(
            f"{name} cannot be resumed: DeepSpeed does not bring back what was offloaded to nvme",
            hint="begin anew with another --save_dir; zero3-offload can be resumed",
        )
    if record["engine"] != facts["engine"]:
        return UserError(
            f"{name} was written by --strategy {record['engine']}, this run is {facts['engine']}",
            hint=f"resume with the strategy that wrote it, {begin_anew}",
        )
    for key in MUST_AGREE:
        if record[key] != facts[key]:
            return UserError(
                f"{name} has {key} {record[key]}, this run has {facts[key]}",
                hint=f"repeat the arguments of the run that wrote it, {begin_anew}",
            )
    return None
