"""The working directory as it would travel: which files, with which content, and what cannot be sent."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from clusterctl.ask.ignore import IGNORE_FILE, PULLED_MARK, Rules
from clusterctl.ask.redirected import redirected
from clusterctl.errors import UsageError
from clusterctl.report.pull import printable
from clusterctl.settings import SYNC

FOLDER = "folder"
_NAMED = 3
_GIVE_UP = 20
"""Counting goes on to this many times the limit, so that the biggest entries can be named."""


class TooBig(UsageError):
    """More than may be copied without being asked."""


class Unusable(UsageError):
    """A directory that holds far more than a project: a home directory, the root of the file system."""


class Tree(msgspec.Struct, frozen=True):
    """What travels of the directory ``root``. ``files``: relative path -> digest, as `digest_of` tells it,
    of files, symlinks, and folders of which nothing else travels. ``size`` is bytes.

    ``special`` names sockets, pipes and devices, which cannot travel; ``ignored`` what `.gitignore` left out.
    ``sizes``: how much of a file was hashed, where that was here and now. It may grow while it is copied.
    """

    root: str
    files: dict[str, str]
    size: int
    special: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    sizes: dict[str, int] = {}

    @property
    def digest(self) -> str:
        """One hash for the whole; names, contents and what is executable count, times and owners do not."""
        return hashlib.sha256(json.dumps(sorted(self.files.items())).encode()).hexdigest()[:32]

    @property
    def count(self) -> int:
        """How many files and symlinks."""
        return sum(digest != FOLDER for digest in self.files.values())

    def manifest(self) -> dict[str, str]:
        """``files`` for the way to a node: each byte of a name is one character, since names are bytes and
        not always text."""
        return {_spelled(name): digest for name, digest in self.files.items()}

    def spelled_sizes(self) -> dict[str, int]:
        """``sizes``, with names as in the manifest."""
        return {_spelled(name): size for name, size in self.sizes.items()}

    @classmethod
    def of_manifest(
        cls, root: str, manifest: dict[str, str], size: int, sizes: Mapping[str, int] | None = None
    ) -> Tree:
        """The one that has told it, and ``sizes`` as `spelled_sizes`."""
        files = {_name(told): digest for told, digest in manifest.items()}
        return cls(root, files, size, sizes={_name(told): each for told, each in (sizes or {}).items()})


def _spelled(name: str) -> str:
    return os.fsencode(name).decode("latin-1")


def _name(spelled: str) -> str:
    return os.fsdecode(spelled.encode("latin-1"))


class _Found:
    """What a walk has met so far: relative path -> its `lstat`."""

    def __init__(self) -> None:
        self.entries: dict[str, os.stat_result] = {}
        self.special: list[str] = []
        self.ignored: list[str] = []
        self.unreadable: dict[str, str] = {}


def scan(root: Path, *, max_bytes: int = SYNC.max_bytes, max_files: int = SYNC.max_files) -> Tree:
    """Hash what lies below ``root``, less what `Rules` leave out, what `pull` brought here, and the files
    that this command's output goes to.

    Raises Unusable for ``$HOME`` and ``/``, TooBig over the limits, naming the biggest entries, UsageError
    for what may not be read.
    """
    root = root.resolve()
    if root == Path("/") or root == Path.home().resolve():
        raise Unusable(
            f"{root} is not a working directory to copy to other machines",
            hint="change into the project's directory, name one with --workdir DIR, or use --no-sync",
        )
    found = _Found()
    total, more = 0, ""
    for status in _walk(root, found):
        total += status.st_size if stat.S_ISREG(status.st_mode) else 0
        if total > _GIVE_UP * max_bytes or len(found.entries) > _GIVE_UP * max_files:
            more = "more than "
            break
    own = redirected()  # not before: what prints there may have begun only now
    for name in [name for name, each in found.entries.items() if (each.st_dev, each.st_ino) in own]:
        total -= found.entries.pop(name).st_size
    if total > max_bytes or len(found.entries) > max_files:
        raise TooBig(
            f"{root} holds {more}{_megabytes(total)} in {len(found.entries):,} files, the limit is "
            f"{_megabytes(max_bytes)} in {max_files:,}; biggest: {_biggest(found.entries)}",
            hint=f"name what is not code in {IGNORE_FILE}, or raise the limit with --sync-limit 1000MB",
        )
    digests, sizes = _digests(root, found)
    if found.unreadable:
        raise UsageError(
            f"{root} cannot be copied whole: {_some([f'{n}: {why}' for n, why in found.unreadable.items()])}",
            hint=f"make it readable, or leave it out: a line with its name in {root / IGNORE_FILE}",
        )
    return Tree(str(root), digests, total, tuple(found.special), tuple(found.ignored), sizes)


def _walk(root: Path, found: _Found) -> Iterator[os.stat_result]:
    """Fill ``found``; yields the status of each entry that travels."""
    waiting = [(str(root), Rules.above(root).inside(str(root)))]
    start = len(str(root)) + 1
    while waiting:
        folder, rules = waiting.pop()
        here = folder[start:]
        try:
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except FileNotFoundError:  # gone meanwhile: as if it had never been
            continue
        except OSError as error:
            found.unreadable[here or "."] = error.strerror or str(error)
            continue
        if any(entry.name == PULLED_MARK for entry in entries):
            continue
        travels = False
        for entry in entries:
            name = entry.path[start:]
            is_folder = entry.is_dir(follow_symlinks=False)
            why = rules.why_not(entry.path, folder=is_folder)
            if why:
                found.ignored += [name + "/" * is_folder] if why in (".gitignore", "exclude") else []
                continue
            if is_folder:
                waiting.append((entry.path, rules.inside(entry.path)))
                travels = True
                continue
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            except OSError as error:
                found.unreadable[name] = error.strerror or str(error)
                continue
            if stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
                found.entries[name] = status
                travels = True
                yield status
            else:
                found.special.append(name)
        if not travels and here:
            with contextlib.suppress(FileNotFoundError):
                found.entries[here] = status = os.lstat(folder)
                yield status


def _digests(root: Path, found: _Found) -> tuple[dict[str, str], dict[str, int]]:
    """Of each entry; and of how many bytes, for files."""
    digests, sizes = {}, {}
    for name in sorted(found.entries):
        try:
            digests[name], size = digest_of(root / name)
        except FileNotFoundError:
            continue
        except OSError as error:
            found.unreadable[name] = error.strerror or str(error)
            continue
        if size is not None:
            sizes[name] = size
    return digests, sizes


def digest_of(path: Path) -> tuple[str, int | None]:
    """SHA-256 of a file's content, behind ``x:`` where its owner may execute it; of a symlink's target,
    behind ``link:``; `FOLDER`. As `clusterctl/node/run/snapshot.py` tells it. And of how many bytes of a file
    that is. Raises OSError."""
    mode = path.lstat().st_mode
    if stat.S_ISDIR(mode):
        return FOLDER, None
    if stat.S_ISLNK(mode):
        return link_digest(os.readlink(path)), None  # noqa: PTH115 - a Path changes `./x`
    handle = open_regular(path)
    found, size = hashlib.sha256(), 0
    with os.fdopen(handle, "rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            found.update(block)
            size += len(block)
    return file_digest(mode, found.hexdigest()), size


def file_digest(mode: int, content: str) -> str:
    return f"x:{content}" if mode & stat.S_IXUSR else content


def link_digest(target: str) -> str:
    return "link:" + hashlib.sha256(os.fsencode(target)).hexdigest()


def open_regular(path: Path) -> int:
    """A handle to read a file by. Raises OSError, also for what only was a file a moment ago: a FIFO must
    not block, a symlink not lead elsewhere."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise FileNotFoundError(f"{path} is not a file any more")
    return handle


def _biggest(entries: dict[str, os.stat_result]) -> str:
    by_entry: dict[str, int] = {}
    for name, status in entries.items():
        entry = name.partition("/")[0]
        by_entry[entry] = by_entry.get(entry, 0) + status.st_size
    top = sorted(by_entry.items(), key=lambda item: -item[1])[:_NAMED]
    return ", ".join(f"{printable(name)} ({_megabytes(size)})" for name, size in top)


def _some(texts: list[str]) -> str:
    more = f"; and {len(texts) - _NAMED} more" if len(texts) > _NAMED else ""
    return "; ".join(map(printable, texts[:_NAMED])) + more


def _megabytes(size: int) -> str:
    return f"{size / 10**6:,.1f} MB"
