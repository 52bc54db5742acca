"""The working directory as an immutable snapshot: packed once here, sent only to nodes that lack it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TypeVar

from clusterctl.ask.host_session import HostSession, listen
from clusterctl.ask.tree import FOLDER, Tree, file_digest, link_digest, open_regular
from clusterctl.errors import ClusterctlError
from clusterctl.messages.orders import Archive, Check
from clusterctl.messages.relay import Checked, Failed, Reply, Unpacked
from clusterctl.report.pull import printable

_PIECE = 128 * 1024
_Answer = TypeVar("_Answer", Checked, Unpacked)


class Packed:
    """A gzip'd tar of a tree in a nameless private file, which many threads may read at once."""

    def __init__(self, tree: Tree, on_packed: Callable[[int], None] = lambda _: None) -> None:
        """Pack exactly what was scanned, of a file that has grown since what it was then. ``on_packed`` hears
        how many bytes of it are done.

        Raises ClusterctlError when a file has changed otherwise: nodes keep the tree under its hash for later
        runs; and where there is no room for it.
        """
        self._file = _temporary()
        try:
            with tarfile.open(fileobj=self._file, mode="w:gz", compresslevel=1) as tar:
                done = 0
                for name, digest in tree.files.items():
                    on_packed(done)
                    _add(tar, tree.root, name, digest, tree.sizes.get(name))
                    done += tree.sizes.get(name, 0)
            self._file.flush()
        except OSError as error:
            self.close()
            raise ClusterctlError(
                f"{tree.root} cannot be packed in {tempfile.gettempdir()}: {error.strerror or error}",
                hint="make room there, or name a directory on a bigger disk: export TMPDIR=/some/where",
            ) from error
        except ClusterctlError:
            self.close()
            raise

    @property
    def size(self) -> int:
        """In bytes."""
        return os.fstat(self._file.fileno()).st_size

    def pieces(self) -> Iterator[bytes]:
        """From its beginning, whoever else reads."""
        offset = 0
        while piece := os.pread(self._file.fileno(), _PIECE, offset):
            yield piece
            offset += len(piece)

    def close(self) -> None:
        with contextlib.suppress(OSError):  # what is still buffered does not fit either
            self._file.close()


def _temporary() -> IO[bytes]:
    try:
        return tempfile.TemporaryFile(prefix="clusterctl-")
    except OSError as error:
        raise ClusterctlError(
            f"no temporary file can be made to pack the code in: {error.strerror}",
            hint="name a directory with room: export TMPDIR=/some/where",
        ) from error


def _add(tar: tarfile.TarFile, root: str, name: str, digest: str, size: int | None) -> None:
    """Put one entry in, owned by nobody in particular; of a file, ``size`` bytes. Raises ClusterctlError when
    it is not ``digest``."""
    path = Path(root) / name
    info = tarfile.TarInfo(name)
    try:
        if digest == FOLDER:
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            found = FOLDER if path.is_dir() else ""
            tar.addfile(info)
        elif digest.startswith("link:"):
            info.type, info.linkname = tarfile.SYMTYPE, _target(path)
            found = link_digest(info.linkname)
            tar.addfile(info)
        else:
            found = _add_file(tar, path, info, size)
    except _Changed:
        found = ""
    if found != digest:
        raise ClusterctlError(
            f"{printable(name)} in {root} changed while it was copied", hint="launch again when it is saved"
        )


class _Changed(Exception):
    """A file is not what it was when it was scanned."""


def _target(path: Path) -> str:
    try:
        return os.readlink(path)  # noqa: PTH115 - a Path changes `./x`
    except OSError as error:
        raise _Changed from error


def _add_file(tar: tarfile.TarFile, path: Path, info: tarfile.TarInfo, size: int | None) -> str:
    """The digest of what went in."""
    try:
        handle = open_regular(path)
    except OSError as error:
        raise _Changed from error
    with os.fdopen(handle, "rb") as stream:
        status = os.fstat(handle)
        info.mode = 0o755 if status.st_mode & 0o100 else 0o644
        info.size, info.mtime = status.st_size if size is None else size, int(status.st_mtime)
        content = _Hashed(stream)
        tar.addfile(info, content)
    return file_digest(status.st_mode, content.found.hexdigest())


class _Hashed:
    """A stream that remembers the hash of what was read from it, and ends no earlier than it should."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.found = hashlib.sha256()

    def read(self, size: int = -1, /) -> bytes:
        try:
            data = self._stream.read(size)
        except OSError as error:
            raise _Changed from error
        if len(data) < size:
            raise _Changed
        self.found.update(data)
        return data


def deliver(
    session: HostSession[Reply],
    tree: Tree,
    content: Callable[[], Packed],
    *,
    root: str,
    in_place: bool,
    deadline: float,
    on_sent: Callable[[int], None] | None = None,
) -> bool:
    """Bring ``tree`` to one node. True when the node holds the same content at ``root`` already.

    ``content`` is called only where the node has neither; ``on_sent`` hears how many bytes went. Raises
    ClusterctlError when the node cannot take it.
    """
    session.send(
        Check(root=root, manifest=tree.manifest() if in_place else {}, in_place=in_place, digest=tree.digest)
    )
    found = _answer(session, Checked, deadline)
    if found.in_place or found.snapshot:
        return found.in_place
    session.send(Archive(digest=tree.digest, begin=True))
    for piece in content().pieces():
        session.send(Archive(digest=tree.digest, data=piece))
        if on_sent is not None:
            on_sent(len(piece))
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
