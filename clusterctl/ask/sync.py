"""The working directory as an immutable snapshot: scanned once here, sent only to nodes that lack it."""

from __future__ import annotations

import fnmatch
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from clusterctl.ask.host_session import HostSession, listen
from clusterctl.errors import ClusterctlError, UsageError
from clusterctl.messages.relay import Archive, Check, Checked, Failed, Reply, Unpacked
from clusterctl.settings import SYNC

_ALWAYS_LEFT_OUT = (
    ".git",
    ".hg",
    ".svn",
    "__pycache__",
    "*.pyc",
    ".venv",
    "venv",
    "node_modules",
    ".mypy_cache",
    ".ruff_cache",
    ".pytest_cache",
    ".hypothesis",
    ".ipynb_checkpoints",
)
IGNORE_FILE = ".clusterctlignore"
_PIECE = 128 * 1024
_Answer = TypeVar("_Answer", Checked, Unpacked)


class Tree(msgspec.Struct, frozen=True):
    """Files below ``root``: relative path -> sha256 (symlinks: ``link:<target>``). ``size`` is in bytes."""

    root: str
    files: dict[str, str]
    size: int

    @property
    def digest(self) -> str:
        """One hash for the whole content; names and contents count, times and owners do not."""
        return hashlib.sha256(json.dumps(sorted(self.files.items())).encode()).hexdigest()[:32]


def scan(root: Path, *, max_bytes: int = SYNC.max_bytes, max_files: int = SYNC.max_files) -> Tree:
    """Hash what lies below ``root``, less caches, version control and what `.clusterctlignore` names.

    Raises UsageError for ``$HOME``, ``/`` and trees over the limits, naming the biggest entries.
    """
    root = root.resolve()
    if root == Path("/") or root == Path.home().resolve():
        raise UsageError(
            f"{root} is not a working directory to copy to other machines",
            hint="change into the project's directory, name one with --workdir DIR, or use --no-sync",
        )
    patterns = (*_ALWAYS_LEFT_OUT, *_ignored(root))
    sizes = {path: path.lstat().st_size for path in _walk(root, patterns)}
    total = sum(sizes.values())
    if total > max_bytes or len(sizes) > max_files:
        raise UsageError(
            f"{root} holds {_megabytes(total)} in {len(sizes):,} files, the limit is {_megabytes(max_bytes)} "
            f"in {max_files:,}; biggest: {_biggest(root, sizes)}",
            hint=f"name what is not code in {IGNORE_FILE}, or raise the limit with --sync-limit 1000MB",
        )
    files = {path.relative_to(root).as_posix(): _digest(path) for path in sizes}
    return Tree(str(root), files, total)


def _ignored(root: Path) -> tuple[str, ...]:
    try:
        lines = (root / IGNORE_FILE).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return ()
    return tuple(line.strip().rstrip("/") for line in lines if line.strip() and not line.startswith("#"))


def _walk(root: Path, patterns: tuple[str, ...]) -> Iterator[Path]:
    def left_out(path: Path) -> bool:
        relative = path.relative_to(root).as_posix()
        return any(fnmatch.fnmatch(path.name, each) or fnmatch.fnmatch(relative, each) for each in patterns)

    for folder, subfolders, names in os.walk(root):
        here = Path(folder)
        links = [name for name in subfolders if (here / name).is_symlink()]
        subfolders[:] = sorted(name for name in subfolders if name not in links and not left_out(here / name))
        for name in sorted(names + links):
            path = here / name
            if not left_out(path) and (path.is_symlink() or path.is_file()):
                yield path


def _digest(path: Path) -> str:
    if path.is_symlink():
        return f"link:{path.readlink()}"
    with path.open("rb") as stream:
        found = hashlib.sha256()
        for block in iter(lambda: stream.read(1 << 20), b""):
            found.update(block)
    return found.hexdigest()


def _biggest(root: Path, sizes: dict[Path, int]) -> str:
    by_entry: dict[str, int] = {}
    for path, size in sizes.items():
        entry = path.relative_to(root).parts[0]
        by_entry[entry] = by_entry.get(entry, 0) + size
    top = sorted(by_entry.items(), key=lambda item: -item[1])[:3]
    return ", ".join(f"{name} ({_megabytes(size)})" for name, size in top)


def _megabytes(size: int) -> str:
    return f"{size / 10**6:,.1f} MB"


def archive(tree: Tree) -> bytes:
    """A gzip'd tar of exactly what was scanned.

    Raises ClusterctlError when a file has changed since: nodes keep the tree under its hash for later runs.
    """
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz", compresslevel=1) as tar:
        for name, digest in tree.files.items():
            try:
                if _add(tar, Path(tree.root) / name, name) == digest:
                    continue
            except FileNotFoundError:
                pass
            raise ClusterctlError(
                f"{name} in {tree.root} changed while it was copied", hint="launch again when it is saved"
            )
    return stream.getvalue()


def _add(tar: tarfile.TarFile, path: Path, name: str) -> str:
    """Put one file in; the digest of what went in."""
    info = tar.gettarinfo(path, arcname=name)
    if info.issym():
        tar.addfile(info)
        return f"link:{info.linkname}"
    # One that is linked to another by the file system is a file of its own all the same.
    info.type, info.linkname = tarfile.REGTYPE, ""
    content = path.read_bytes()
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))
    return hashlib.sha256(content).hexdigest()


def deliver(
    session: HostSession[Reply],
    tree: Tree,
    content: Callable[[], bytes],
    *,
    root: str,
    in_place: bool,
    deadline: float,
) -> bool:
    """Bring ``tree`` to one node. True when the node holds the same content at ``root`` already.

    ``content`` gives the archive's bytes; called only where the node has neither. Raises ClusterctlError
    when the node cannot take it.
    """
    session.send(
        Check(root=root, manifest=tree.files if in_place else {}, in_place=in_place, digest=tree.digest)
    )
    found = _answer(session, Checked, deadline)
    if found.in_place or found.snapshot:
        return found.in_place
    packed = memoryview(content())
    session.send(Archive(digest=tree.digest, begin=True))
    for start in range(0, len(packed), _PIECE):
        session.send(Archive(digest=tree.digest, data=bytes(packed[start : start + _PIECE])))
    session.send(Archive(digest=tree.digest, end=True))
    _answer(session, Unpacked, deadline)
    return False


def _answer(session: HostSession[Reply], kind: type[_Answer], deadline: float) -> _Answer:
    for _, message in listen((session,), deadline):
        if message is None:
            break
        if isinstance(message, kind):
            return message
        if isinstance(message, Failed):
            raise ClusterctlError(f"{session.host}: cannot store the code there: {message.reason}")
    last = session.last_words
    raise ClusterctlError(
        f"{session.host}: no answer while the code was copied" + (f": {last}" if last else "")
    )
