"""Runs a program of the node room here, as a host would: from its bundle, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clusterctl.ask.bundle import _BOOT, pack
from clusterctl.ask.host_session import MARK


def ask(main: str, request: Mapping[str, Any], files: Sequence[str], *, home: Path) -> list[dict[str, Any]]:
    """Its messages, up to its end."""
    process = subprocess.Popen(
        [sys.executable, "-S", "-E", "-c", _BOOT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "HOME": str(home)},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(pack(main, request, files))
    process.stdin.flush()  # and not closed: that is the controller's way to hang up
    lines = process.stdout.read().splitlines()
    process.stdin.close()
    assert process.wait(60) == 0
    return [json.loads(line.partition(MARK)[2]) for line in lines if MARK in line]
