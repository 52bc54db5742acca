"""What comparisons leave on this machine: a folder for each, readable by its owner alone."""

from __future__ import annotations

from pathlib import Path

from clusterctl.settings import HOME_VARIABLE
from clusterctl.store import files
from clusterctl.store.home import home


def keep(comparison: str, name: str, content: bytes) -> Path:
    """One of its files, whole. Raises ClusterctlError where it cannot be kept."""
    with files.explained(home(), HOME_VARIABLE):
        path = home() / "comparisons" / comparison / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.write(path, content)
        return path
