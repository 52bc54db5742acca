"""Files that a verb writes where somebody said: whole or not at all, and over nothing without --force."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from clusterctl.errors import ClusterctlError, UsageError


def check(output: Path, option: str, *, force: bool) -> None:
    """Raises UsageError where `write` would fail, as far as can be told before. ``option`` named the file."""
    if output.exists() and not force:
        raise UsageError(f"{output} exists", hint=f"--force replaces it, {option} names another file")
    if problem := _unwritable(output):
        raise UsageError(f"{output} cannot be written: {problem}", hint=f"name another file with {option}")


def _unwritable(output: Path) -> str:
    """Why no file can be made there; empty where nothing speaks against it."""
    if output.is_dir():
        return "it is a folder"
    if not output.parent.is_dir():
        return f"there is no folder {output.parent}"
    return "" if os.access(output.parent, os.W_OK) else f"you may not write in {output.parent}"


def write(output: Path, text: str, option: str, *, force: bool) -> None:
    """All of the file or nothing, and never over a file that has appeared meanwhile."""
    try:
        handle, name = tempfile.mkstemp(dir=output.parent, prefix=f".{output.name}.")
        temporary = Path(name)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(text)
            temporary.chmod(0o644)
            if force:
                temporary.replace(output)
            else:
                output.hardlink_to(temporary)
        finally:
            temporary.unlink(missing_ok=True)
    except FileExistsError:
        raise UsageError(f"{output} exists", hint="--force replaces it") from None
    except OSError as error:
        raise ClusterctlError(
            f"{output} cannot be written: {error.strerror}", hint=f"name another file with {option}"
        ) from error
