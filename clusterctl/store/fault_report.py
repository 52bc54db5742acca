"""Where the details of a fault of clusterctl itself are kept, for the report that somebody may write."""

from __future__ import annotations

import os
import platform
import tempfile
import time
import traceback
from pathlib import Path

from clusterctl.store.home import home


def keep(error: BaseException, version: str, verb: str) -> Path:
    """Write the traceback to a private file, below `home` or else where temporary files lie.

    The command line is left out: it may hold secrets. Raises OSError where nothing can be written.
    """
    head = f"clusterctl {version} {verb}, Python {platform.python_version()}, {platform.platform()}\n\n"
    text = head + "".join(traceback.format_exception(error))
    name = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{os.getpid()}.txt"
    try:
        folder = home() / "faults"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / name
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError:
        handle, found = tempfile.mkstemp(prefix="clusterctl-fault-", suffix=".txt")
        path = Path(found)
    with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as stream:
        stream.write(text)
    return path
