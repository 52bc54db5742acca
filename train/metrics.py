"""Numbers for programs: a file of JSON lines, each complete when it is written."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

# A file of this rank's own; who started the run reads it along.
VARIABLE = "CLUSTERCTL_METRICS"


class JsonLines:
    """Appends to `path`. Raises OSError where it cannot be opened; a disk that takes no more costs lines, not
    the training, and is said once."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = path.open("ab", buffering=0)
        self.lost = False

    def write(self, **values: Any) -> None:
        """One line of what is known (not None), and the time; JSON has no nan: it becomes "nan"."""
        known = {name: _plain(value) for name, value in values.items() if value is not None}
        line = json.dumps({**known, "t": time.time()}) + "\n"
        try:
            self.file.write(line.encode())
        except OSError as error:
            if not self.lost:
                print(
                    f"{self.file.name} lacks lines from here on: {error.strerror}",
                    file=sys.stderr,
                    flush=True,
                )
            self.lost = True


def from_environment() -> JsonLines | None:
    """The file that this rank was told to write its steps to, if it was."""
    path = os.environ.get(VARIABLE)
    return JsonLines(Path(path)) if path else None


def _plain(value: Any) -> Any:
    """nan, inf and -inf as words."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def perplexity(loss: float) -> float:
    """Infinite where a float holds no such number."""
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf
