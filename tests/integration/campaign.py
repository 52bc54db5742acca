"""Rounds of the campaign of faults as a test: a fixed sample, of which each file has a part."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def play_each(kinds: Sequence[str], folder: Path, *options: str) -> None:
    """A round of each kind, with ranks that need no torch. Side by side: they wait more than they work."""
    play(folder, "--each", "--kinds", ",".join(kinds), "--real", "0", *options)


def play(folder: Path, *options: str) -> None:
    kept = ["--keep", str(folder / "broken"), "--results", str(folder / "results.jsonl")]
    argv = [sys.executable, "-m", "tests.chaos", *kept, *options]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
