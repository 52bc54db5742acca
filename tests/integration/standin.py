"""A torchrun that only forks the ranks (`tests/chaos/standin`), for tests of what is not torch, whose import
costs each host seconds of a core."""

from __future__ import annotations

import shutil
import venv
from pathlib import Path

from clusterctl.sandbox import Sandbox
from tests import chaos


def make_standin(folder: Path) -> Path:
    """The profile of hosts with that torchrun, whose environment is made in ``folder``."""
    venv.create(folder / "python", symlinks=True)
    (site,) = (folder / "python").glob("lib/python*/site-packages")
    shutil.copytree(Path(chaos.__file__).parent / "standin/torch", site / "torch")
    (folder / "profile.yaml").write_text(f"python: {folder}/python/bin/python\n")
    return folder / "profile.yaml"


def without_torch(box: Sandbox) -> list[str]:
    """Options of a launch on ``box``, whose hosts have all as many ranks."""
    folder = box.hostfile.parent / "without-torch"  # which hosts see
    if not folder.exists():
        folder.mkdir()
        make_standin(folder)
    return ["--force", "--profile", str(folder / "profile.yaml")]
