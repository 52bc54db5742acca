"""Which of the Trainer's checkpoints a fine-tuning goes on from: the newest that is as it was written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch.distributed as dist

from arguments import DDP
from checkpoint import RECORD, step_of
from errors import UserError
from progress import say
from ranks import Place, gather
from restoring import Torn, difference
from trainer_checkpoint import LORA, Store, is_checkpoint, share

Record = dict[str, Any]
# What the Trainer would take from the checkpoint, whatever the arguments say, or could not read.
MUST_AGREE = ("engine", "method", "dtype", "lr", "weight_decay", *LORA, "optimizer", "scheduler")
EXACT_WHEN_EQUAL = ("ranks", "model", "data", "seed", "steps", "warmup", "lora_dropout")
COPY = "copy it again, or begin anew with another --save_dir"


def newest(resume: str | None, store: Store) -> Path | None:
    """The newest whole checkpoint of `resume` (a directory of them, or one), None where there is none yet.

    Says what is passed over, and in what the run differs from the one that wrote it. Collective; raises
    UserError where it cannot go on from there, or where later checkpoints would be taken for its own.
    """
    named = None if resume in (None, "auto") else Path(str(resume)).expanduser().resolve()
    where = named or store.directory
    root = where.parent if is_checkpoint(where) else where
    listed = [where] if is_checkpoint(where) else filter(is_checkpoint, root.glob("*"))
    here = {path.name: _read(path) for path in listed if path.is_dir()} if resume else {}
    views: list[dict[str, Record | None]] = gather(here)
    passed: dict[str, Torn] = {}
    for name in sorted({name for view in views for name in view}, key=step_of, reverse=True):
        records = [view[name] for view in views if name in view]
        record = records[0]
        if record is None or None in records:
            _say(f"{name} is passed over: it was not finished", store)
            continue
        _require_same_run(name, record, store)
        torn = _torn(root / name, here.get(name), store)
        if torn is None:
            if root == store.directory:
                _forget(passed, store)
            _tell(name, record, store)
            _require_none_beyond(step_of(name), store)
            return root / name
        _say(f"{name} is passed over: {torn.reason}", store)
        passed[name] = torn
    if passed:
        name, first = next(iter(passed.items()))
        raise UserError(f"no checkpoint in {root} is whole: {name}: {first.reason}", hint=first.hint)
    if named:
        raise UserError(
            f"{where} holds no whole checkpoint",
            hint="give the --save_dir of an earlier run, or one checkpoint-... directory in it",
        )
    _require_none_beyond(0, store)
    if resume:
        _say(f"no checkpoint in {where} yet: starting at step 0", store)
    return None


def _say(line: str, store: Store) -> None:
    if store.place.is_first:
        say(line)


def _read(path: Path) -> Record | None:
    try:
        record = json.loads((path / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and isinstance(record.get("files"), dict) else None


def _torn(path: Path, record: Record | None, store: Store) -> Torn | None:
    """What is wrong with the files of a checkpoint, the same on all ranks. Collective."""
    place = store.place
    mine = share(sorted(record["files"]) if record else [], store.sharers(), place)
    problem = None
    if record is None:
        problem = Torn(reason=f"{place.host} has nothing of it", hint=COPY)
    elif store.facts["engine"] != DDP and _own_part(place) not in record["files"]:
        problem = Torn(
            reason=f"{place.host} has not what rank {place.rank} wrote",
            hint="start the hosts in the order of the run that wrote it, or give a --save_dir that all share",
        )
    else:
        for name in mine:
            size, digest = record["files"][name]
            wrong = difference(path / name, size, digest) if (path / name).exists() else "is missing"
            if wrong:
                problem = Torn(reason=f"{place.host}: {name} {wrong}", hint=COPY)
                break
    return next(filter(None, gather(problem)), None)


def _own_part(place: Place) -> str:
    """The Trainer writes one for each of several ranks, wherever DeepSpeed writes a shard."""
    return f"rng_state_{place.rank}.pth" if place.world_size > 1 else "rng_state.pth"


def _require_same_run(name: str, record: Record, store: Store) -> None:
    facts, ranks = store.facts, store.place.world_size
    for key in MUST_AGREE:
        if record.get(key) != facts[key]:
            raise UserError(
                f"{name} was written with {key} {_words(record.get(key))}, this run has {_words(facts[key])}",
                hint="repeat the arguments of the run that wrote it, or begin anew with another --save_dir",
            )
    if record["ranks"] != ranks and facts["engine"] != DDP:
        raise UserError(
            f"{name} was written by {record['ranks']} ranks, this run has {ranks}",
            hint="DeepSpeed resumes on as many ranks only; a run by --strategy ddp goes on with any number",
        )
    if record["batch"] != facts["batch"]:
        # The Trainer counts steps, and would go on elsewhere in the data.
        passes, rest = divmod(record["batch"], facts["batch"] // facts["gas"])
        raise UserError(
            f"{name}: {record['batch']} conversations are a step there, and {facts['batch']} in this run",
            hint="another --micro_batch or --gas makes them equal"
            if rest
            else f"--gas {passes} makes them equal",
        )


def _words(value: Any) -> str:
    return "none" if value is None else value if isinstance(value, str) else json.dumps(value)


def _forget(passed: Mapping[str, Torn], store: Store) -> None:
    """Torn ones count as unfinished from now on. Collective."""
    if store.is_writer:
        for name in passed:
            (store.directory / name / RECORD).unlink(missing_ok=True)
    dist.barrier()


def _tell(name: str, record: Record, store: Store) -> None:
    _say(f"resumed {name}", store)
    differing = [key for key in EXACT_WHEN_EQUAL if record.get(key) != store.facts[key]]
    if differing:
        told = ", ".join(
            "other data"
            if key == "data"
            else f"{key} was {_words(record.get(key))}, now {_words(store.facts[key])}"
            for key in differing
        )
        _say(f"not an exact continuation: {told}", store)


def _require_none_beyond(step: int, store: Store) -> None:
    """Later checkpoints in the save_dir are another run's: they would be what `auto` resumes. Collective."""
    views = gather([path.name for path in store.whole()])
    found = max((name for view in views for name in view), key=step_of, default=None)
    if found and step_of(found) > step:
        raise UserError(
            f"{store.directory} holds {found} of an earlier run, and this one goes on at step {step}",
            hint="--resume auto goes on from there; else give another --save_dir, or remove it",
        )
