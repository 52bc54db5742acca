"""The compiled code of this very program, kept for the next one."""

from __future__ import annotations

import contextlib
from typing import Any

_modules: Any = globals()["__loader__"]
"""What has loaded this module: `loader.Modules`, on a node."""


def digest():
    """Of the sources that this program was loaded from; "" where those are files."""
    return getattr(_modules, "digest", "")


def keep():
    """Once somebody has time for it. Where it cannot be, programs are compiled again each time."""
    with contextlib.suppress(OSError, AttributeError):
        _modules.keep()
