"""A machine that has no time, for what must hold there as well."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator

BUSY = 4


@contextlib.contextmanager
def all_cores_busy(processes: int = BUSY) -> Iterator[None]:
    """So many processes that want all the time there is."""
    spinning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for each in spinning:
            each.kill()
            each.wait()
