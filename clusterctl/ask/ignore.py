"""What of a directory does not travel: gitignore rules, from `.clusterctlignore` and from git's own files."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from pathspec import GitIgnoreSpec

from clusterctl.ask import repository
from clusterctl.ask.repository import Repository
from clusterctl.errors import UsageError
from clusterctl.store import files

IGNORE_FILE = ".clusterctlignore"
PULLED_MARK = ".clusterctl-pulled"
_VERSION_CONTROL = frozenset((".git", ".hg", ".svn"))
_CACHES = (
    "__pycache__/",
    "*.pyc",
    ".venv/",
    "venv/",
    "node_modules/",
    ".mypy_cache/",
    ".ruff_cache/",
    ".pytest_cache/",
    ".hypothesis/",
    ".ipynb_checkpoints/",
)


class _Pattern:
    """One line. It speaks of an entry itself only: what lies in a folder left out is never asked for."""

    def __init__(self, line: str) -> None:
        """Raises ValueError or re.error for what is no pattern."""
        ended = line.rstrip(" ")
        ended = line if ended.endswith("\\") else ended
        self.folders_only = ended.endswith("/")
        patterns = list(GitIgnoreSpec.from_lines([ended.removesuffix("/")]).patterns)
        self.leaves_out = patterns[0].include if patterns else None
        # None for empty lines and comments, too.
        self._regex = patterns[0].regex if self.leaves_out is not None else None

    def fits(self, path: str, *, folder: bool) -> bool:
        if self._regex is None or (self.folders_only and not folder):
            return False
        # Where its regex could also mean what lies below, pathspec marks the slash between them.
        whole = "ps_d" in self._regex.groupindex
        return (self._regex.fullmatch(path) if whole else self._regex.search(path)) is not None


class _Rule:
    """One ignore file. ``base`` is the directory that its patterns are relative to."""

    def __init__(self, name: str, base: str, patterns: Iterable[_Pattern]) -> None:
        self.name = name
        self._prefix = len(base.rstrip("/")) + 1
        self._patterns = tuple(patterns)[::-1]

    def leaves_out(self, path: str, *, folder: bool) -> bool | None:
        """None where it says nothing; False for ``!``. The last line that fits decides."""
        inside = path[self._prefix :]
        return next((each.leaves_out for each in self._patterns if each.fits(inside, folder=folder)), None)


_CACHE_PATTERNS = tuple(map(_Pattern, _CACHES))


class Rules:
    """Those in force in one folder, strongest first: the deepest `.clusterctlignore` before those above it,
    then `.gitignore` likewise, `.git/info/exclude`, and what is never code."""

    def __init__(self, own: tuple[_Rule, ...] = (), git: tuple[_Rule, ...] = ()) -> None:
        self._own = own
        self._git = git

    @classmethod
    def above(cls, root: Path) -> Rules:
        """What the repository around ``root`` says from outside of it."""
        found = repository.around(root)
        if found is None or found.root in (root, Path.home().resolve()) or not repository.is_own(found):
            return cls()
        return _down_to(root, found) or cls()

    def inside(self, folder: str) -> Rules:
        """The rules within ``folder``, absolute, which these do not leave out."""
        git = self._git
        nested = repository.at(Path(folder))
        if nested is not None:  # the rules of a repository end where another begins
            git = _read(str(nested.exclude), folder, own=False)
        return Rules(
            _read(f"{folder}/{IGNORE_FILE}", folder, own=True) + self._own,
            _read(f"{folder}/.gitignore", folder, own=False) + git,
        )

    def why_not(self, path: str, *, folder: bool) -> str:
        """Empty when ``path`` travels, else the name of what leaves it out. It is absolute and lies directly
        in the folder of these rules."""
        last = path.rpartition("/")[2]
        if last in _VERSION_CONTROL:
            return "version control"
        for rule in (*self._own, *self._git):
            verdict = rule.leaves_out(path, folder=folder)
            if verdict is not None:
                return rule.name if verdict else ""
        return "caches" if any(each.fits(last, folder=folder) for each in _CACHE_PATTERNS) else ""


def belongs(root: Path, found: Repository) -> bool:
    """Whether ``root`` is part of the repository it lies in: not left out by its rules, as a directory for
    experiments may be."""
    return _down_to(root, found) is not None


def _down_to(root: Path, found: Repository) -> Rules | None:
    """The rules of a repository in the parent of ``root``; None where they leave it out."""
    rules = Rules()
    for folder in reversed((root, *root.parents[: len(root.relative_to(found.root).parts)])):
        if folder != found.root and rules.why_not(str(folder), folder=True):
            return None
        if folder != root:
            rules = rules.inside(str(folder))
    return rules


def _read(path: str, folder: str, *, own: bool) -> tuple[_Rule, ...]:
    """The rules in the file ``path``, if there is one."""
    try:
        content = files.read(Path(path))
    except OSError as error:
        if not own or not os.access(Path(path).parent, os.X_OK):
            # As git: what cannot be read says nothing; of a folder nobody may enter, the walk itself tells.
            return ()
        raise UsageError(
            f"{path} cannot be read: {error.strerror}", hint="make it an ordinary file"
        ) from error
    patterns = []
    for number, line in enumerate(os.fsdecode(content or b"").removeprefix("\ufeff").split("\n"), 1):
        try:
            patterns.append(_Pattern(line.removesuffix("\r")))
        except (ValueError, re.error) as error:
            if own:
                raise UsageError(
                    f"{path} line {number}: `{line}` is not a pattern",
                    hint="its syntax is that of .gitignore",
                ) from error
    return (_Rule(path.rpartition("/")[2], folder, patterns),) if patterns else ()
