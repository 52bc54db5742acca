"""Where this machine keeps what clusterctl must remember."""

from __future__ import annotations

import os
import re
import secrets
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from clusterctl.settings import HOME_VARIABLE
from clusterctl.store import files

_PLAN_SIZE = 64 << 10
"""Bytes that must be free before hosts are asked: a plan and the beginning of its events."""


def home(environ: Mapping[str, str] = os.environ) -> Path:
    """`$CLUSTERCTL_HOME`, by default `~/.clusterctl`."""
    return Path(environ.get(HOME_VARIABLE) or Path.home() / ".clusterctl")


def new_run_id() -> str:
    """Begins with the time in UTC, so that ids sort by it on every machine and when clocks change; the tail
    keeps two starts in one second apart."""
    return time.strftime("%Y%m%d-%H%M%S-", time.gmtime()) + secrets.token_hex(2)


def is_run_id(text: str) -> bool:
    """Whether it may be the whole of one, of any machine."""
    return re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{4}", text, re.ASCII) is not None


def make_home() -> None:
    """See to it that `home` can hold a run. Raises ClusterctlError that says what is wrong with it."""
    with files.explained(home(), HOME_VARIABLE):
        for folder in (home(), home() / "runs"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home() / "runs", buffering=0) as trial:
            trial.write(bytes(_PLAN_SIZE))
