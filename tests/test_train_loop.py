from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path
from typing import Any, cast

import pytest

pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "train"))

from loop import Run


class Silent:
    """Says nothing, and removes nothing."""

    def goodbye(self, steps: int, ending: str) -> None:
        self.ending = ending

    def prune(self) -> None:
        pass


class Told(Run):
    """Tells what it would do; a signal comes in the step `stopped`."""

    def _step(self, *, show_first: bool) -> int:
        self.step += 1
        self.did.append(f"step {self.step}")
        return 15 if self.step == self.stopped else 0

    def _evaluate(self) -> None:
        self.did.append("evaluate")

    def _save(self, store: Any) -> None:
        self.did.append("save")

    did: list[str]
    stopped: int


@pytest.mark.parametrize(
    ("begun", "stopped", "did"),
    [
        # What is saved has been evaluated: a state that has no loss is not saved.
        (0, 0, "step 1, step 2, evaluate, step 3, save, step 4, evaluate, step 5, evaluate, save"),
        (3, 0, "step 4, evaluate, step 5, evaluate, save"),
        (0, 2, "step 1, step 2, save"),
        (0, 3, "step 1, step 2, evaluate, step 3, save"),
        (5, 0, "evaluate"),
    ],
)
def test_what_comes_after_what(begun: int, stopped: int, did: str) -> None:
    nothing = cast(Any, Silent())
    args = Namespace(steps=5, eval_every=2, save_every=3)
    run = Told(args, nothing, nothing, nothing, nothing, nothing, nothing, nothing, step=begun)
    run.did, run.stopped = [], stopped
    assert run.train() == (15 if stopped else 0)
    assert ", ".join(run.did) == did
