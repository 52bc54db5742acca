"""The git repository a directory belongs to, found by reading files as git does; git itself is not needed."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec


class Repository(msgspec.Struct, frozen=True):
    """``root`` is the top of the working tree, ``exclude`` its private ignore file (which may be missing)."""

    root: Path
    exclude: Path


def at(folder: Path) -> Repository | None:
    """The repository whose working tree begins in ``folder``: an ordinary one, a worktree or a submodule."""
    git = folder / ".git"
    try:
        if git.is_file():  # of a worktree and of a submodule: says where the real one lies
            word, _, place = git.read_text(encoding="utf-8").strip().partition(": ")
            if word != "gitdir":
                return None
            git = folder / place
        if not (git / "HEAD").is_file():
            return None
        common = git / "commondir"  # worktrees share what lies here
        if common.is_file():
            git = git / common.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return Repository(folder, git / "info" / "exclude")


def around(folder: Path) -> Repository | None:
    """The nearest one at or above ``folder``, which must be absolute."""
    for place in (folder, *folder.parents):
        found = at(place)
        if found is not None:
            return found
    return None


def is_own(repository: Repository) -> bool:
    """Whether it belongs to the user: somebody else's in a shared place, such as /tmp, is not believed."""
    try:
        return repository.root.stat().st_uid == os.getuid()
    except OSError:
        return False
