"""Small private files: read without being held up by what lies there instead, written whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from clusterctl.errors import ClusterctlError

_REASONS = {
    errno.ENOSPC: "its disk is full",
    errno.EDQUOT: "your quota there is used up",
    errno.EROFS: "it is read-only",
    errno.ENOTDIR: "a file is in the way of a folder",
    errno.EEXIST: "a file is in the way of a folder",
}


def read(path: Path) -> bytes | None:
    """The content of a regular file; None where there is none. A FIFO or device in its place raises
    OSError at once instead of blocking."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    with os.fdopen(handle, "rb") as stream:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        return stream.read()


def is_regular(path: Path) -> bool:
    """Whether a regular file lies there; False also where nobody can tell."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


def write(path: Path, content: bytes) -> None:
    """So that a reader sees all of it or none."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
            stream.write(content)
        partial.replace(path)
    except OSError:
        with suppress(OSError):
            partial.unlink()
        raise


@contextmanager
def explained(home: Path, variable: str) -> Iterator[None]:
    """Turns an OSError below ``home`` into a ClusterctlError that says what is wrong with it."""
    try:
        yield
    except OSError as error:
        what = _REASONS.get(error.errno or 0, error.strerror or str(error))
        raise ClusterctlError(
            f"clusterctl cannot keep its runs in {home}: {what}"
            + (f" ({error.filename})" if error.filename and str(error.filename) != str(home) else ""),
            hint=f"choose another directory of your own: export {variable}=/some/where",
        ) from error
