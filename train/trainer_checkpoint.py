"""The checkpoints that the Trainer writes: recorded once they are whole, with the facts of their run."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.distributed as dist
from transformers import TrainerCallback, TrainingArguments

import trainer_settings
from arguments import DDP
from checkpoint import RECORD, measure, step_of
from ranks import Place, gather

NAME = re.compile(r"checkpoint-(\d+)")
LORA = ("lora_rank", "lora_alpha", "lora_targets")


@dataclass(frozen=True, kw_only=True)
class Store:
    """Where checkpoints lie, and the facts of this run. With `node_local` each host has a disk of its own."""

    directory: Path
    place: Place
    node_local: bool
    keep: int
    facts: Mapping[str, Any]

    @property
    def is_writer(self) -> bool:
        return self.place.local_rank == 0 if self.node_local else self.place.is_first

    def sharers(self) -> list[int]:
        """The ranks that have this rank's disk, and share the work of reading it. Collective."""
        # Hosts may share a name, but not the rank that is their first.
        hosts = gather((self.place.host, self.place.rank - self.place.local_rank))
        own = hosts[self.place.rank]
        return [rank for rank, host in enumerate(hosts) if not self.node_local or host == own]

    def whole(self) -> list[Path]:
        """Complete checkpoints, oldest first."""
        found = [record.parent for record in self.directory.glob(f"*/{RECORD}")]
        return sorted(filter(is_checkpoint, found), key=lambda path: step_of(path.name))


class Recording(TrainerCallback):  # type: ignore[misc]
    """Records what the Trainer has saved once all ranks have, and removes the oldest beyond `store.keep`."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        store, path = self.store, self.store.directory / f"checkpoint-{state.global_step}"
        if store.is_writer:
            for shards in path.glob("global_step*"):
                # DeepSpeed writes this on the first host, and wants it on all.
                (path / "latest").write_text(shards.name)
        dist.barrier()
        sharers = store.sharers()
        names = sorted(str(file.relative_to(path)) for file in path.rglob("*") if file.is_file())
        measured = gather({name: measure(path / name) for name in share(names, sharers, store.place)})
        if store.is_writer:
            files = {name: found for rank in sharers for name, found in measured[rank].items()}
            draft = path / f"{RECORD}.draft"
            draft.write_text(json.dumps({**store.facts, "files": files}, indent=2) + "\n", encoding="utf-8")
            draft.rename(path / RECORD)
            for old in store.whole()[: -store.keep]:
                (old / RECORD).unlink()
                shutil.rmtree(old)


def facts(args: Any, settings: TrainingArguments, *, data: str, dtype: str, place: Place) -> dict[str, Any]:
    """What a run is, for the record of its checkpoints."""
    stage = trainer_settings.stage(settings)
    batch = settings.per_device_train_batch_size * settings.gradient_accumulation_steps * place.world_size
    adapter = args.method != "full"
    file = settings.deepspeed or {}
    return {
        "engine": DDP if stage is None else f"zero{stage}",
        "ranks": place.world_size,
        "batch": batch,
        "gas": settings.gradient_accumulation_steps,
        "dtype": dtype,
        "data": data,
        "steps": settings.max_steps,
        "lr": settings.learning_rate,
        "warmup": settings.warmup_steps,
        "weight_decay": settings.weight_decay,
        **{name: file.get(name) for name in ("optimizer", "scheduler")},
        **{name: getattr(args, name) for name in ("method", "model", "seed")},
        **{name: getattr(args, name) if adapter else None for name in (*LORA, "lora_dropout")},
    }


def is_checkpoint(path: Path) -> bool:
    return NAME.fullmatch(path.name) is not None


def share(names: list[str], sharers: list[int], place: Place) -> list[str]:
    return names[sharers.index(place.rank) :: len(sharers)]
