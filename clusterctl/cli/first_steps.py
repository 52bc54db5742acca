"""What to type first, for somebody at a terminal of a machine that has seen neither hosts nor a run."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

_LINES = """
first  clusterctl init gpu1 gpu2   writes ./hostfile: asks each machine
then   clusterctl doctor           can they train? then: clusterctl launch
or     clusterctl sandbox up       no machines? virtual ones, here
"""


def show(environ: Mapping[str, str] = os.environ) -> None:
    """Say it on stderr, where it is of use; nothing elsewhere."""
    if not sys.stderr.isatty() or _has_begun(environ):
        return
    from clusterctl.cli import screen

    screen.err().print(_LINES.strip(), style="dim")


def _has_begun(environ: Mapping[str, str]) -> bool:
    from clusterctl.settings import HOME_VARIABLE, HOSTFILE_VARIABLE, JOB_HOSTFILE
    from clusterctl.store.home import home

    try:
        if environ.get(HOSTFILE_VARIABLE) or Path("hostfile").exists() or Path(JOB_HOSTFILE).exists():
            return True
        kept = home({HOME_VARIABLE: environ.get(HOME_VARIABLE, "")})
        return any(any((kept / name).glob("*")) for name in ("runs", "sandbox"))
    except OSError:
        return True
