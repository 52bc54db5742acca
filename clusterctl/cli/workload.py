"""What is to be trained, as typed: the script and the directory it runs in."""

from __future__ import annotations

import os
import re
from importlib import resources
from pathlib import Path

import msgspec

from clusterctl.ask.sync import Tree, scan
from clusterctl.errors import UsageError
from clusterctl.plan.model import Code
from clusterctl.settings import SYNC

SHIPPED = "pretrain.py"


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """``command`` runs inside ``code``; ``{python}`` stands for each host's interpreter. ``tree`` is what to
    copy to the hosts, None when nothing is."""

    command: tuple[str, ...]
    code: Code
    tree: Tree | None


def shipped_directory() -> Path:
    """Where the shipped workload lies: inside an installed package, beside it in a checkout."""
    package = Path(str(resources.files("clusterctl")))
    return next(path for path in (package / "_train", package.parent / "train") if path.is_dir())


def resolve(
    script: str, *, module: bool, no_python: bool, workdir: str, sync: bool, sync_limit: str
) -> Workload:
    """Check what was typed against the disk here. Raises UsageError."""
    if not script:
        root = shipped_directory()
        tree = scan(root)
        return Workload(
            command=("{python}", "-u", SHIPPED),
            code=Code(
                root=str(root), digest=tree.digest, files=len(tree.files), size=tree.size, in_place=False
            ),
            tree=tree,
        )
    here = Path.cwd()
    root = Path(workdir).expanduser().resolve() if workdir else here
    if not root.is_dir():
        raise UsageError(f"--workdir {workdir} is not a directory", hint="name the project's directory")
    inside = here.is_relative_to(root)
    start = here if inside else root
    code = Code(root=str(root), subdirectory=start.relative_to(root).as_posix() if start != root else "")
    command = _command(script, start, root, module=module, no_python=no_python)
    if not sync:
        return Workload(command=command, code=code, tree=None)
    tree = scan(root, max_bytes=_bytes(sync_limit), max_files=_files(sync_limit))
    code = msgspec.structs.replace(code, digest=tree.digest, files=len(tree.files), size=tree.size)
    return Workload(command=command, code=code, tree=tree)


def _command(script: str, start: Path, root: Path, *, module: bool, no_python: bool) -> tuple[str, ...]:
    if module:
        return ("{python}", "-u", "-m", script)
    path = (start / script).resolve()
    if no_python and "/" not in script and not path.is_file():
        return (script,)
    if not path.is_file():
        raise UsageError(
            f"the script {script} does not exist in {start}",
            hint="options of launch come before SCRIPT, its own arguments after; -m runs a module",
        )
    if not path.is_relative_to(root):
        raise UsageError(
            f"the script {path} lies outside the working directory {root}, so the hosts would not get it",
            hint=f"--workdir {path.parent}",
        )
    name = script if not Path(script).is_absolute() else os.path.relpath(path, start)
    return (f"./{name}" if "/" not in name else name,) if no_python else ("{python}", "-u", name)


def _bytes(limit: str) -> int:
    if not limit:
        return SYNC.max_bytes
    match = re.fullmatch(r"(\d+)\s*(MB|GB)", limit, re.IGNORECASE)
    if match is None:
        raise UsageError(f"--sync-limit {limit} is no size", hint="--sync-limit 500MB, --sync-limit 2GB")
    return int(match[1]) * (10**9 if match[2].upper() == "GB" else 10**6)


def _files(limit: str) -> int:
    # Who raises the limit has looked at what goes over.
    return SYNC.max_files if not limit else 10 * SYNC.max_files
