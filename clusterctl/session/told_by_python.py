"""What a program of `node/` tells when this machine's Python runs it, in a process of its own: what trains is
never imported here."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import resources
from pathlib import Path

from clusterctl.settings import LINT


def told(program: str, *arguments: str) -> bytes | None:
    """The standard output of ``node/<program>.py``; None where it fails, or what it asks is not installed."""
    path = Path(str(resources.files("clusterctl"))) / "node" / f"{program}.py"
    # Accelerators decide nothing here, and looking for GPUs takes long; the hub is not asked.
    environment = {**os.environ, "DS_ACCELERATOR": "cpu", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    try:
        done = subprocess.run(
            [sys.executable, str(path), *arguments],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=LINT.schema_timeout,
            env=environment,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout
