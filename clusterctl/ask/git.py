"""How the files that travel differ from the last commit. Asks git, where there is one, and not for long."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path

from clusterctl.ask import repository
from clusterctl.plan.model import GitState

_TIMEOUT = 10.0
# Looks only: takes no lock, starts no file system monitor.
_GIT = ("git", "-c", "core.fsmonitor=false", "--no-optional-locks")
_STATUS = ("status", "--porcelain=v2", "--branch", "-z", "--untracked-files=all", "--no-renames", "--", ".")


class Look:
    """Begins at once, in a thread of its own. ``files`` are those that travel, relative to ``root``."""

    def __init__(self, root: Path, files: Mapping[str, str]) -> None:
        self._answer: Future[GitState | None] = Future()
        threading.Thread(target=self._look, args=(root, files), name="git status", daemon=True).start()

    def result(self) -> GitState | None:
        """None where there is no repository, no commit, no git, or no answer in time."""
        try:
            return self._answer.result(timeout=_TIMEOUT)
        except TimeoutError:
            return None

    def _look(self, root: Path, files: Mapping[str, str]) -> None:
        try:
            self._answer.set_result(_state(root, files))
        except (OSError, subprocess.SubprocessError, ValueError):
            self._answer.set_result(None)


def _state(root: Path, files: Mapping[str, str]) -> GitState | None:
    found = repository.around(root)
    if found is None or not repository.is_own(found):
        return None
    done = subprocess.run(
        [*_GIT, "-C", str(root), *_STATUS],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=_TIMEOUT,
        check=True,
    )
    prefix = "" if found.root == root else f"{root.relative_to(found.root).as_posix()}/"
    return counted(done.stdout, files, prefix)


def counted(status: bytes, files: Mapping[str, str], prefix: str = "") -> GitState | None:
    """From what `git status --porcelain=v2 --branch -z` prints; ``prefix``: where the files lie in it."""
    commit, changed, untracked = "", 0, 0
    for entry in os.fsdecode(status).split("\0"):
        kind, _, rest = entry.partition(" ")
        if entry.startswith("# branch.oid "):
            commit = entry.rpartition(" ")[2]
        elif kind in ("1", "u"):
            fields = rest.split(" ", 7 if kind == "1" else 9)
            name = fields[-1].removeprefix(prefix)
            deleted = "D" in fields[0]
            changed += deleted or _travels(name, files)
        elif kind == "?":
            untracked += rest.removeprefix(prefix) in files
    return GitState(commit=commit, changed=changed, untracked=untracked) if commit.isalnum() else None


def _travels(name: str, files: Mapping[str, str]) -> bool:
    """A submodule is one entry, and its files travel."""
    return name in files or any(each.startswith(f"{name}/") for each in files)
