"""The same steps as event files, for TensorBoard: ``tensorboard --logdir`` on the directory of a run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from clusterctl.store import event_file
from clusterctl.store.step import Step

FOLDER = "tensorboard"
_NUMBERS = (
    "loss", "loss_max", "eval_loss", "grad_norm", "lr", "tokens_per_s", "step_s", "step_s_max", "data_share",
    "peak_bytes", "skipped", "mfu",
)  # fmt: skip
_REMEMBERED = 128


class EventFile:
    """Of one attempt, which is a curve of its own. Begins anew, as `RunMetrics` does. A disk that does not
    take something costs that."""

    def __init__(self, run: Path, attempt: int) -> None:
        folder = run / FOLDER
        self._path = (folder if attempt == 1 else folder / f"attempt-{attempt}") / event_file.name_of(attempt)
        self._begun = False
        self._scalars = Scalars()

    def add(self, steps: Sequence[Step]) -> None:
        """Of a step that is known better, what is new. Raises OSError."""
        records = []
        for step in steps:
            if news := self._scalars.news(step):
                records.append(event_file.scalars(step.time or time.time(), step.step, news))
        if records:
            self._write(b"".join(records))

    def _write(self, records: bytes) -> None:
        if not self._begun:
            self._path.parent.mkdir(mode=0o700, exist_ok=True, parents=True)
            self._path.unlink(missing_ok=True)
            records = event_file.first_record(time.time()) + records
        event_file.append(self._path, records)
        self._begun = True


class Scalars:
    """Steps as numbers by name, each told once."""

    def __init__(self) -> None:
        self._shown: dict[tuple[int, int], dict[str, float]] = {}

    def news(self, step: Step) -> dict[str, float]:
        """What is new of it: all, or what is known better of one of the newest."""
        values = scalars_of(step)
        before = self._shown.pop((step.attempt, step.step), {})
        self._shown[step.attempt, step.step] = values
        if len(self._shown) > _REMEMBERED:
            del self._shown[next(iter(self._shown))]
        return {name: value for name, value in values.items() if before.get(name) != value}


def scalars_of(step: Step) -> dict[str, float]:
    """What is told of it, by the names that TensorBoard shows."""
    told = {name: getattr(step, name) for name in _NUMBERS}
    told |= {f"other/{name}": value for name, value in step.other.items()}
    return {name: float(value) for name, value in told.items() if value is not None}
